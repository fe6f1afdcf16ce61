package terraform

import "time"

// SetClock has e take the time from now.
func (e *Engines) SetClock(now func() time.Time) { e.now = now }

// SetReleases has e install from url, signed with an armored public key.
func (e *Engines) SetReleases(url, key string) { e.mirror, e.signer = url, key }

// SetLockTimeout has an apply wait so long ("1s") for the state's lock.
func (e *Engines) SetLockTimeout(timeout string) { e.lockTimeout = timeout }
