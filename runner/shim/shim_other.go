//go:build !unix

package shim

import (
	"context"
	"io"
	"os"
)

// Main does nothing on this system, unless it was started as a shim.
func Main() {
	if os.Getenv(Dir) != "" || os.Getenv(supervise) != "" {
		os.Stderr.WriteString("holdfast: " + ErrUnsupported.Error() + "\n")
		os.Exit(codeUsage)
	}
}

// Follow returns ErrUnsupported.
func Follow(context.Context, string, io.Writer) (Exit, error) { return Exit{}, ErrUnsupported }

// Alive returns ErrUnsupported.
func Alive(string) (bool, error) { return false, ErrUnsupported }

// Interrupt returns ErrUnsupported.
func Interrupt(string) error { return ErrUnsupported }

// Detach returns ErrUnsupported.
func Detach(string) error { return ErrUnsupported }
