package redis

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var sources embed.FS

// script is one of lua/*.lua behind what it shares with others. The server
// keeps it by its hash; where it does not know it yet, the text is sent.
type script struct{ *goredis.Script }

// newScript joins lua/NAME.lua for each name, the last one being the script
// and those before it what it uses.
func newScript(names ...string) script {
	text := source("prelude")
	for _, name := range names {
		switch name {
		case "jobs":
			text += luaList("SENT", sentFields) + luaList("JOB", rowFields)
		case "runs":
			text += luaList("RUN", runFields)
		}
		text += source(name)
	}
	return script{goredis.NewScript(text)}
}

func source(name string) string {
	text, err := sources.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err) // a name that is wrong in this package
	}
	return string(text)
}

// luaList declares a list of names in Lua.
func luaList(name string, values []string) string {
	return fmt.Sprintf("local %s = { '%s' }\n", name, strings.Join(values, "', '"))
}

// read executes a script that changes nothing. The reply "nothing" is nil.
func (d *database) read(ctx context.Context, s script, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.reply(s.Run(ctx, d.client, []string{d.prefix}, args...))
}

// write executes a script that changes something, with a name for this call as
// its first argument: where the answer is lost and the script is executed
// again, it answers as before (lua/prelude.lua).
func (d *database) write(ctx context.Context, s script, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	args = append([]any{rand.Text()}, args...)
	if d.cfg.WaitReplicas > 0 {
		return d.reply(d.writeThrough(ctx, s, args))
	}
	return d.reply(s.Run(ctx, d.client, []string{d.prefix}, args...))
}

func (d *database) reply(cmd *goredis.Cmd) (any, error) {
	reply, err := cmd.Result()
	if errors.Is(err, goredis.Nil) {
		return nil, nil
	}
	return reply, d.explain(err)
}
