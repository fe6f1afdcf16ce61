package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
	"github.com/nicholas-fedor/shoutrrr/pkg/util/jsonclient"

	"holdfast/watch"
)

// maxUnderWay is how many deliveries of one notifier may wait for an answer:
// shoutrrr's senders cannot be interrupted, and some wait for long.
const maxUnderWay = 4

// limits are bytes of text that a service takes, its title included; 4,000 is
// what the others take at least.
var limits = map[string]int{
	"pushover": 1000, "pagerduty": 1000, "wecom": 2000, "bark": 2000, "notifiarr": 1900,
	"zulip": 9900, "smtp": 256 << 10, "generic": 256 << 10, "matrix": 32 << 10,
}

// titled are the services that show a title for itself.
var titled = []string{"bark", "gotify", "join", "lark", "matrix", "ntfy", "opsgenie", "pushbullet", "pushover", "smtp", "telegram"}

// chats have mentions and markup.
var chats = []string{"googlechat", "hangouts", "lark", "matrix", "mattermost", "notifiarr", "rocketchat", "telegram", "wecom", "zulip"}

// other sends through shoutrrr.
type other struct {
	address  *url.URL
	service  string
	underWay chan struct{}
}

// limitDefaultClient gives the program's default HTTP client a limit, unless it
// has one. Most of shoutrrr's senders use that client and can be given no other:
// without it a service that never answers would have its deliveries wait for ever.
var limitDefaultClient = sync.OnceFunc(func() {
	if http.DefaultClient.Timeout == 0 {
		http.DefaultClient.Timeout = time.Minute
	}
})

func newOther(u *url.URL) (*other, error) {
	limitDefaultClient()
	service, _, _ := strings.Cut(u.Scheme, "+")
	checked := *u
	if service == "matrix" && u.User != nil {
		// With a user's name, shoutrrr logs in as soon as it has read the address; a
		// token alone it only keeps.
		password, _ := u.User.Password()
		checked.User = url.UserPassword("", password)
	}
	if _, err := open(&checked); err != nil {
		return nil, err
	}
	return &other{u, service, make(chan struct{}, maxUnderWay)}, nil
}

// open makes a service of an address, as shoutrrr's router does; that one does
// not say why it refuses an address.
func open(u *url.URL) (service types.Service, err error) {
	defer func() {
		// A short token, for one, is cut without a look.
		if r := recover(); r != nil {
			err = errors.New("it cannot be read")
		}
	}()
	name, _, custom := strings.Cut(u.Scheme, "+")
	if !slices.Contains(services(), name) {
		return nil, unknown(u.Scheme)
	}
	r := router.ServiceRouter{}
	if service, err = r.NewService(name); err != nil {
		return nil, unknown(u.Scheme)
	}
	copied := *u
	to := &copied
	if custom {
		from, ok := service.(types.CustomURLService)
		if !ok {
			return nil, fmt.Errorf("%s takes no other address behind a +", name)
		}
		if to, err = from.GetConfigURLFromCustom(to); err != nil {
			return nil, err
		}
	}
	if err := service.Initialize(to, nil); err != nil {
		return nil, err
	}
	return service, nil
}

func (o *other) Notify(ctx context.Context, m watch.Message) error {
	select {
	case o.underWay <- struct{}{}:
	default:
		return fmt.Errorf("%s has not answered to the last %d messages yet", o.service, maxUnderWay)
	}
	text, params := o.write(m)
	result := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				result <- errors.New("the service's sender broke down")
			}
			<-o.underWay
		}()
		// A service changes its own configuration while it sends: each message has
		// one for itself. Opening it may make requests (matrix).
		service, err := open(o.address)
		if err == nil {
			err = service.Send(text, &params)
		}
		result <- err
	}()
	select {
	case err := <-result:
		return otherError(o.service, err)
	case <-ctx.Done():
		return fmt.Errorf("send to %s: %w", o.service, ctx.Err())
	}
}

// write returns the text and the parameters for a service.
func (o *other) write(m watch.Message) (string, types.Params) {
	title, text := prepare(m)
	if slices.Contains(chats, o.service) {
		title, text = quiet(title), quiet(text)
	}
	params := types.Params{}
	switch {
	case slices.Contains(titled, o.service) || o.service == "generic" && o.address.Query().Get("template") != "":
		if title != "" {
			params.SetTitle(title)
		}
	case title != "":
		text = strings.TrimSpace(title + "\n" + text)
	}
	// Our text is plain; read as markup it could say something else.
	switch o.service {
	case "telegram":
		params["parsemode"] = "None"
	case "smtp":
		params["usehtml"] = "No"
	}
	limit := 4000
	if l, ok := limits[o.service]; ok {
		limit = l
	}
	return withLink(text, clickable(m.Link), limit-size(params[types.TitleKey]), size), params
}

// status finds an HTTP status in what a sender says; most keep it nowhere else.
var status = regexp.MustCompile(`\b([345]\d\d) ([A-Z][A-Za-z' -]+)`)

// otherError types what a sender says, as far as it tells.
func otherError(service string, err error) error {
	if err == nil {
		return nil
	}
	code := 0
	if answer := (jsonclient.Error{}); errors.As(err, &answer) {
		code = answer.StatusCode
	}
	for _, found := range status.FindAllStringSubmatch(err.Error(), -1) {
		if n, _ := strconv.Atoi(found[1]); code == 0 && strings.HasPrefix(found[2], http.StatusText(n)) && http.StatusText(n) != "" {
			code = n
		}
	}
	return classify(fmt.Errorf("send to %s: %w", service, err), code, -1)
}
