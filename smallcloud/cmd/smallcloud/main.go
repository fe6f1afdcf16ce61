// Command smallcloud runs the small cloud and its provider in a process of
// their own, which lives on when the program under test is killed. Its first
// line on the standard output is a JSON object:
//
//	{"url":"http://127.0.0.1:40125","reattach":"{…}","pid":123}
//
// where "reattach" is the value for TF_REATTACH_PROVIDERS.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"holdfast/smallcloud"
	"holdfast/smallcloud/provider"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "smallcloud:", err)
		os.Exit(1)
	}
}

// ready is the first line of the output.
type ready struct {
	URL      string `json:"url"`
	Reattach string `json:"reattach"`
	PID      int    `json:"pid"`
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("smallcloud", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:0", "`address` to serve on")
	file := flags.String("file", "", "`file` that keeps the cloud over restarts; memory only without it")
	delay := flags.Duration("delay", 0, "how long a creation takes that does not say itself")
	churn := flags.Bool("churn", false, "change every etag with every read")
	if err := flags.Parse(args); err != nil {
		return err
	}

	cloud, err := smallcloud.New(smallcloud.Options{File: *file, Delay: *delay, Churn: *churn})
	if err != nil {
		return err
	}
	defer cloud.Close()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(ctx)
	reattach, stopped, err := provider.Serve(ctx, url)
	if err != nil {
		cancel()
		listener.Close()
		return err
	}
	defer func() {
		cancel()
		<-stopped
	}()
	if err := json.NewEncoder(stdout).Encode(ready{URL: url, Reattach: reattach, PID: os.Getpid()}); err != nil {
		listener.Close()
		return err
	}
	server := &http.Server{Handler: cloud, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
