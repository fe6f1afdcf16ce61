package terraform

import "time"

// SetClock has e take the time from now.
func (e *Engines) SetClock(now func() time.Time) { e.now = now }

// SetReleases has e install from url, signed with an armored public key.
func (e *Engines) SetReleases(url, key string) { e.mirror, e.signer = url, key }
