package supervisor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/supervisor/process"
)

// tryProgram starts the worker program for a moment.
func tryProgram(ctx context.Context, cfg config.Config) error {
	program, err := workerProgram(cfg)
	if err != nil {
		return err
	}
	return process.CheckProgram(ctx, program)
}

// workerProgram is the path of the worker program.
func workerProgram(cfg config.Config) (string, error) {
	if cfg.Workers.Binary != "" {
		return cfg.Workers.Binary, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the worker program: %w", err)
	}
	return filepath.Join(filepath.Dir(self), "worker"), nil
}
