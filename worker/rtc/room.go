package rtc

// room is space for one T within its owner, for what mostly stands alone: small objects
// that live for hours keep whole pages from being given back.
type room[T any] struct {
	first T
	taken bool
}

// take returns a place for a new T: once the one within, then one of its own. No place is
// given twice, as somebody may still point there.
func (r *room[T]) take() *T {
	if r.taken {
		return new(T)
	}
	r.taken = true
	return &r.first
}
