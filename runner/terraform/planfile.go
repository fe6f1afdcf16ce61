package terraform

import (
	"archive/zip"
	"bufio"
	"bytes"
	varint "encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/msgpack"
)

// planned is where a plan file says that its state is. The engine takes it from
// there and not from the checkout: Terraform 1.11 applies a plan of an empty
// state to another Terraform workspace, or to a file that nobody looks at.
type planned struct {
	backend, workspace string
	path               string // of the state; backend "local" alone
}

// fits says whether planFile's state is s's. Where the file does not tell, as
// the bookmark of a plan in HCP Terraform and an encrypted plan do not, or
// where it is no plan at all, the engine is left to judge. The error is
// ErrStalePlan.
func (s *session) fits(planFile string) error {
	p, err := readPlanned(planFile)
	if err != nil || p.backend == "cloud" {
		return nil
	}
	var what, is, want string
	switch {
	case p.workspace != s.workspace():
		what, is, want = "Terraform workspace", p.workspace, s.workspace()
	case s.in.backend != "" && p.backend != s.in.backend:
		what, is, want = "backend", p.backend, s.in.backend
	case s.m.StateFile != "" && p.backend == "local" && p.path != s.m.StateFile:
		what, is, want = "state", p.path, s.m.StateFile
	default:
		return nil
	}
	return fmt.Errorf("apply: %w: it is for the %s %q, not %q", ErrStalePlan, what, is, want)
}

// Fields of the engine's messages Plan and Backend.
const (
	planBackend      = 13
	backendType      = 1
	backendConfig    = 2
	backendWorkspace = 3
	configMsgpack    = 1

	maxBackend = 1 << 20 // bytes of the message Backend
)

// readPlanned reads a plan file, a ZIP archive, of which the file "tfplan" is a
// protocol buffers message.
func readPlanned(planFile string) (planned, error) {
	z, err := zip.OpenReader(planFile)
	if err != nil {
		return planned{}, fmt.Errorf("read plan file: %w", err)
	}
	defer z.Close()
	f, err := z.Open("tfplan")
	if err != nil {
		return planned{}, fmt.Errorf("read plan file: %w", err)
	}
	defer f.Close()
	p, err := scanPlan(bufio.NewReader(f))
	if err != nil {
		return planned{}, fmt.Errorf("read plan file: %w", err)
	}
	return p, nil
}

func scanPlan(r *bufio.Reader) (planned, error) {
	message, err := field(r, planBackend)
	if err != nil {
		return planned{}, err
	}
	get := func(message []byte, number uint64) []byte {
		value, fieldErr := field(bufio.NewReader(bytes.NewReader(message)), number)
		if fieldErr != nil && !errors.Is(fieldErr, io.EOF) {
			err = fieldErr
		}
		return value
	}
	p := planned{
		backend:   string(get(message, backendType)),
		workspace: string(get(message, backendWorkspace)),
	}
	config := get(get(message, backendConfig), configMsgpack)
	if err == nil && p.backend == "local" {
		p.path, err = statePath(config)
	}
	return p, err
}

// statePath returns the attribute path of a local backend's configuration.
func statePath(config []byte) (string, error) {
	ty, err := msgpack.ImpliedType(config)
	if err != nil {
		return "", err
	}
	v, err := msgpack.Unmarshal(config, ty)
	if err != nil {
		return "", err
	}
	if !ty.IsObjectType() || !ty.HasAttribute("path") {
		return "", nil
	}
	path := v.GetAttr("path")
	if path.IsNull() || !path.IsKnown() || path.Type() != cty.String {
		return "", nil
	}
	return path.AsString(), nil
}

// field returns the first field of a protocol buffers message that has this
// number and a length. The error is io.EOF where there is none.
func field(r *bufio.Reader, number uint64) ([]byte, error) {
	for {
		tag, err := varint.ReadUvarint(r)
		if err != nil {
			return nil, err
		}
		var length uint64
		switch kind := tag & 7; kind {
		case 0: // a number of variable length
			_, err = varint.ReadUvarint(r)
		case 1:
			length = 8
		case 2:
			length, err = varint.ReadUvarint(r)
		case 5:
			length = 4
		default:
			err = fmt.Errorf("unknown wire type %d", kind)
		}
		wanted := tag == number<<3|2
		if err == nil && (length > math.MaxInt64 || wanted && length > maxBackend) {
			err = fmt.Errorf("a field of %d bytes", length)
		}
		if err != nil {
			return nil, unexpected(err)
		}
		if wanted {
			value := make([]byte, length)
			_, err := io.ReadFull(r, value)
			return value, unexpected(err)
		}
		if _, err := io.CopyN(io.Discard, r, int64(length)); err != nil {
			return nil, unexpected(err)
		}
	}
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
