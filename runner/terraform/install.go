package terraform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hc-install/product"
	"github.com/hashicorp/hc-install/releases"
	"github.com/rogpeppe/go-internal/lockedfile"
)

// againAfter is how long a failed installation stands for others of its kind,
// so that twenty workspaces without a network do not fail one after the other.
const againAfter = 30 * time.Second

// installClient notices a missing network soon. The library's own client would
// try again for a quarter of a minute.
func installClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		ForceAttemptHTTP2:     true,
	}}
}

// install downloads the newest engine that satisfies want into the data
// directory. HashiCorp's signature of the checksums is verified by hc-install.
func (e *Engines) install(ctx context.Context, name string, want version.Constraints) (engine, error) {
	if name == "tofu" {
		return engine{}, fmt.Errorf("OpenTofu cannot be installed automatically; it is looked for on PATH and as %s",
			filepath.Join(e.engineDir(name), "VERSION", executable(name)))
	}
	unlock, err := e.exclusive(ctx, e.installing, filepath.Join(e.config.DataDir, "engines", "lock"))
	if err != nil {
		return engine{}, err
	}
	defer unlock()
	// Somebody may have installed it, or tried to, while this one waited.
	if found, _, err := e.local(ctx, name, want); err != nil || found.path != "" {
		return found, err
	}
	key := name + " " + want.String()
	if f, ok := e.failed[key]; ok && e.now().Sub(f.at) < againAfter { // guarded by installing
		return engine{}, f.err
	}
	found, err := e.download(ctx, name, want)
	if err != nil && ctx.Err() == nil {
		e.failed[key] = failure{e.now(), err}
	}
	return found, err
}

func (e *Engines) download(ctx context.Context, name string, want version.Constraints) (engine, error) {
	what := name
	if want != nil {
		what += " " + want.String()
	}
	e.config.Progress("installing " + what + " from HashiCorp's releases")
	tmp, err := os.MkdirTemp(filepath.Join(e.config.DataDir, "engines"), ".new-*")
	if err != nil {
		return engine{}, err
	}
	defer os.RemoveAll(tmp)
	source := &releases.LatestVersion{
		Product:          product.Terraform,
		Constraints:      want,
		InstallDir:       tmp,
		Timeout:          e.config.InstallTimeout,
		ApiBaseURL:       e.mirror,
		ArmoredPublicKey: e.signer,
		HTTPClient:       e.client,
	}
	start := e.now()
	path, err := source.Install(ctx)
	if err != nil {
		e.config.Progress(fmt.Sprintf("installing %s did not work: %v", what, err))
		return engine{}, err
	}
	v, err := e.version(ctx, path)
	if err != nil {
		return engine{}, err
	}
	if err := os.MkdirAll(e.engineDir(name), 0o700); err != nil {
		return engine{}, err
	}
	home := filepath.Join(e.engineDir(name), v.String())
	if err := os.RemoveAll(home); err != nil { // not executable, or local would have found it
		return engine{}, err
	}
	if err := os.Rename(tmp, home); err != nil {
		return engine{}, err
	}
	e.config.Progress(fmt.Sprintf("installed %s %s in %s", name, v, e.now().Sub(start).Round(100*time.Millisecond)))
	return engine{name, filepath.Join(home, executable(name)), v.String()}, nil
}

// exclusive waits for the token of this process, then for the lock file, which
// other processes with the same data directory take too.
func (e *Engines) exclusive(ctx context.Context, token chan struct{}, path string) (unlock func(), err error) {
	select {
	case token <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type locked struct {
		unlock func()
		err    error
	}
	got := make(chan locked, 1)
	go func() {
		unlock, err := lockedfile.MutexAt(path).Lock()
		got <- locked{unlock, err}
	}()
	select {
	case l := <-got:
		if l.err != nil {
			<-token
			return nil, fmt.Errorf("lock %s: %w", path, l.err)
		}
		return func() { l.unlock(); <-token }, nil
	case <-ctx.Done():
		go func() { // give back what comes too late
			if l := <-got; l.err == nil {
				l.unlock()
			}
			<-token
		}()
		return nil, errors.Join(ctx.Err(), errors.New("another process has locked "+path))
	}
}
