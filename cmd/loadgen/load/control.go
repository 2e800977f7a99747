package load

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

const (
	// controlEvery is the time between the beginnings of two calls.
	controlEvery = 20 * time.Millisecond
	// controlPatience ends a call that gets no answer.
	controlPatience = 2 * time.Second
)

// ControlReport is how a worker answered control calls during the load. Failed calls
// count with the time until they failed.
type ControlReport struct {
	Calls  uint64 `json:"calls"`
	Failed uint64 `json:"failed"`
	Latency
}

// watchControl calls the worker on the Unix socket every 20 ms, one call at a time,
// until ctx ends. Each goes through the media loop.
func watchControl(ctx context.Context, socket string) (*ControlReport, error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("dial worker: %w", err)
	}
	defer func() { _ = conn.Close() }()
	client := workerv1.NewWorkerServiceClient(conn)
	report, latency := &ControlReport{}, newHistogram()
	ticker := time.NewTicker(controlEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			report.Latency = latency.latencies()
			return report, nil
		case <-ticker.C:
		}
		call, cancel := context.WithTimeout(ctx, controlPatience)
		began := time.Now()
		_, err := client.GetResourceUsage(call, &workerv1.GetResourceUsageRequest{})
		cancel()
		if ctx.Err() != nil {
			continue // cut short by the end
		}
		report.Calls++
		latency.add(time.Since(began))
		if err != nil {
			report.Failed++
		}
	}
}
