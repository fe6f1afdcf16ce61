package smallcloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// load replays file and keeps it open for what follows. A last line that was
// cut off, as a killed process leaves it, is dropped: nobody was told that it
// happened.
func (c *Cloud) load(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	good, err := c.replay(f)
	if err == nil {
		err = f.Truncate(good)
	}
	if err == nil {
		_, err = f.Seek(good, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return err
	}
	c.file = f
	return nil
}

// replay returns the length of the part that it understood.
func (c *Cloud) replay(r io.Reader) (good int64, err error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	for n := 1; len(data) > 0; n++ {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			break
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return 0, fmt.Errorf("line %d: %w", n, err)
		}
		c.apply(e)
		good += int64(len(line)) + 1
		data = rest
	}
	return good, nil
}

// apply repeats an entry of the file.
func (c *Cloud) apply(e Entry) {
	c.remember(e)
	switch {
	case e.Error != "":
	case e.Resource != nil:
		c.resources[e.Resource.ID] = e.Resource.clone()
	case e.Op == OpDelete:
		delete(c.resources, e.ID)
	}
}

// record writes e down before anybody is told of it. The caller holds c.mu.
func (c *Cloud) record(e Entry) error {
	if c.closed {
		return ErrClosed
	}
	if c.file != nil && e.Op != OpRead {
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("write cloud file: %w", err)
		}
		if _, err := c.file.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("write cloud file: %w", err)
		}
	}
	if e.Resource != nil {
		kept := e.Resource.clone()
		e.Resource = &kept
	}
	c.remember(e)
	return nil
}

func (c *Cloud) remember(e Entry) {
	c.journal = append(c.journal, e)
	// Cut in large steps, so that a full journal does not move with each entry.
	if excess := len(c.journal) - c.options.MaxJournal; excess > c.options.MaxJournal/10 {
		c.journal = append(c.journal[:0:0], c.journal[excess:]...)
	}
}
