package ortc

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
)

// UnmarshalJSON reads parameters back as they were: whole numbers become int64.
func (p *Parameters) UnmarshalJSON(b []byte) error {
	var values map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&values); err != nil {
		return fmt.Errorf("codec parameters: %w: %w", err, errs.ErrInvalid)
	}
	for name, v := range values {
		switch v := v.(type) {
		case string:
		case json.Number:
			n, err := v.Int64()
			if err != nil {
				return fmt.Errorf("codec parameter %q: %w: %w", name, err, errs.ErrInvalid)
			}
			values[name] = n
		default:
			return fmt.Errorf("codec parameter %q is a %T: %w", name, v, errs.ErrInvalid)
		}
	}
	*p = values
	return nil
}
