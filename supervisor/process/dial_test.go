package process

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

func TestLostCallsAreRepeated(t *testing.T) {
	for _, row := range []struct {
		name    string
		answers []codes.Code // the last one again and again
		calls   int
		want    codes.Code
	}{
		{"an answer", []codes.Code{codes.OK}, 1, codes.OK},
		{"a refusal", []codes.Code{codes.NotFound}, 1, codes.NotFound},
		{"the process was lost", []codes.Code{codes.Unavailable, codes.OK}, 2, codes.OK},
		{"it retires", []codes.Code{codes.Aborted, codes.Aborted, codes.Aborted, codes.Aborted, codes.Unavailable, codes.OK}, 6, codes.OK},
		{"nobody comes", []codes.Code{codes.Unavailable}, maxTries, codes.Unavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls, began := 0, time.Now()
				invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
					code := row.answers[min(calls, len(row.answers)-1)]
					calls++
					return grpcstatus.Error(code, "")
				}
				err := repeatLost(t.Context(), "", nil, nil, nil, invoke)
				if calls != row.calls || grpcstatus.Code(err) != row.want {
					t.Errorf("%d calls and %v, want %d and %v", calls, err, row.calls, row.want)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
