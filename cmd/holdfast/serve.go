package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"holdfast/workspaces"
)

func newServe() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server: webhooks, pages, queue and workers in one process",
		Long: `Run the server. Settings come from flags, then HOLDFAST_* variables, then the
server file (server.hcl). SIGTERM or Ctrl-C ends it: running jobs get a grace
time, then their engines are interrupted and save their state. A second signal
ends it at once; what was running is picked up at the next start.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.start(cmd, serves) },
	}
	f.register(cmd)
	return cmd
}

func newWorkerCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run jobs for servers that share a store",
		Long: `Run jobs, and nothing else: no webhooks, no pages, no schedules. Any number of
workers, on any number of machines, share the jobs of the servers that use the
same store (redis://…) and the same server file. It answers /healthz, /readyz and
/metrics where it listens. SIGTERM or Ctrl-C ends it as it ends "serve".`,
		Example: "  holdfast worker --config server.hcl\n  holdfast worker --config server.hcl --label prod --workers 8",
		Args:    takes(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.start(cmd, works) },
	}
	f.register(cmd)
	return cmd
}

// start runs a server until the command's context ends.
func (f *serverFlags) start(cmd *cobra.Command, r role) error {
	if err := protectProcess(); err != nil {
		return err
	}
	s, err := f.settings(LoadSettings)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	if os.Geteuid() == 0 && s.Workers > 0 {
		logger.Warn("running as root: what a plan runs can read everything on this machine; run Holdfast as a user of its own")
	}
	srv, err := newServer(cmd.Context(), s, serverOptions{Logger: logger, Role: r})
	if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
		return nil // told to end while it waited for its store
	}
	if err != nil {
		return err
	}
	defer srv.Close()
	return srv.Run(cmd.Context())
}

// serverFlags are the flags of commands that use the server's settings.
type serverFlags struct {
	file, url, listen, store, dataDir string
	workers                           int
	labels                            []string
	cmd                               *cobra.Command
}

func (f *serverFlags) register(cmd *cobra.Command) {
	f.cmd = cmd
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "the server file (HOLDFAST_CONFIG; default server.hcl where there is one)")
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", "directory for everything that Holdfast keeps (HOLDFAST_DATA_DIR)")
	cmd.Flags().StringVar(&f.store, "store", "", `"sqlite", "sqlite:PATH" or "redis://HOST:PORT" (HOLDFAST_STORE)`)
	if cmd.Name() == "serve" || cmd.Name() == "worker" {
		cmd.Flags().StringVar(&f.url, "url", "", "the server's address as people and hosts reach it (HOLDFAST_URL)")
		cmd.Flags().StringVar(&f.listen, "listen", "", "address and port to listen on (HOLDFAST_LISTEN)")
		cmd.Flags().IntVar(&f.workers, "workers", 0, "jobs that run side by side; 0 leaves them to other processes (HOLDFAST_WORKERS)")
		cmd.Flags().StringSliceVar(&f.labels, "label", nil, "a `label` that workspaces may choose this process's workers by (HOLDFAST_LABELS)")
	}
}

// settings loads the server file, with the flags over it.
func (f *serverFlags) settings(load func(string, func(string) (string, bool)) (Settings, error)) (Settings, error) {
	file := f.file
	if file == "" {
		file = os.Getenv("HOLDFAST_CONFIG")
	}
	if file == "" {
		if _, err := os.Stat("server.hcl"); err == nil {
			file = "server.hcl"
		}
	}
	flags, named := map[string]string{}, map[string]string{}
	for name, variable := range map[string]string{"url": "HOLDFAST_URL", "listen": "HOLDFAST_LISTEN", "store": "HOLDFAST_STORE", "data-dir": "HOLDFAST_DATA_DIR", "workers": "HOLDFAST_WORKERS", "label": "HOLDFAST_LABELS"} {
		if flag := f.cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			flags[variable], named[variable] = strings.Trim(flag.Value.String(), "[]"), "--"+name
		}
	}
	if err := noPassword("--store", f.store); err != nil {
		return Settings{}, err
	}
	s, err := load(file, func(name string) (string, bool) {
		if v, ok := flags[name]; ok {
			return v, true
		}
		return os.LookupEnv(name)
	})
	var problems workspaces.Problems
	if errors.As(err, &problems) {
		for i, p := range problems {
			if flag, ok := named[p.File]; ok {
				problems[i].File = flag // what was typed, not the variable that it stands for
			}
		}
	}
	return s, err
}

// noPassword refuses a store's address with a password in it on the command
// line.
func noPassword(flag, address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	if _, secret := u.User.Password(); !secret && !u.Query().Has("sentinel_password") {
		return nil
	}
	return hinted{fmt.Errorf("%s has a password in it, which everybody on this machine can read in the list of processes", flag),
		`leave it out there, and set HOLDFAST_REDIS_PASSWORD, or password = env("…") in the server file's redis block (sentinel_password for Sentinels)`}
}
