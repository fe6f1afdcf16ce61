package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go"

	"holdfast/watch"
)

const (
	maxSubject = 100       // characters
	maxMessage = 250 << 10 // bytes, of 256 KiB with the attributes
)

// SNSConfig says who publishes.
type SNSConfig struct {
	// RoleARN is a role to assume, and ExternalID goes with it. Default to none.
	RoleARN, ExternalID string
	// Endpoint is for tests; retries hardly wait then. Defaults to AWS's.
	Endpoint string
	// HTTPClient defaults to the SDK's.
	HTTPClient *http.Client
}

// SNS publishes to a topic. Safe for concurrent use.
type SNS struct {
	access access
	topic  string
	client *sns.Client
}

var _ watch.Notifier = (*SNS)(nil)

// ParseTopic reads "sns:TOPIC-ARN". A wrong address is a *watch.PermanentError,
// which does not quote it.
func ParseTopic(url string) (arn.ARN, error) {
	topic, ok := strings.CutPrefix(url, "sns:")
	parsed, err := arn.Parse(topic)
	if !ok || err != nil || parsed.Service != "sns" || parsed.Region == "" || parsed.AccountID == "" || parsed.Resource == "" || strings.Contains(parsed.Resource, ":") {
		return arn.ARN{}, &watch.PermanentError{
			Err:    errors.New("the address is not that of an SNS topic"),
			Advice: "write it as sns:arn:aws:sns:eu-west-1:123456789012:topic",
		}
	}
	return parsed, nil
}

// NewSNS opens "sns:TOPIC-ARN", in the ARN's region. It makes no request. Errors
// are those of ParseTopic.
func NewSNS(ctx context.Context, url string, c SNSConfig) (*SNS, error) {
	topic, err := ParseTopic(url)
	if err != nil {
		return nil, err
	}
	s := &SNS{access: access{topic.Region, c.RoleARN, c.ExternalID, c.Endpoint, c.HTTPClient}, topic: topic.String()}
	cfg, err := s.access.load(ctx)
	if err != nil {
		return nil, err
	}
	s.client = sns.NewFromConfig(cfg)
	return s, nil
}

// Notify publishes the title as the subject, and the text with the link. The
// attribute "kind" has the kinds of the events, for filter policies: a String for
// one, a String.Array for several. A FIFO topic delivers a message once within
// five minutes, however often it is tried.
func (s *SNS) Notify(ctx context.Context, m watch.Message) error {
	in := &sns.PublishInput{TopicArn: &s.topic, Subject: sdk.String(subject(m.Title)), Message: sdk.String(message(m))}
	if kind := kinds(m.Events); kind != nil {
		in.MessageAttributes = map[string]types.MessageAttributeValue{"kind": *kind}
	}
	if strings.HasSuffix(s.topic, ".fifo") {
		in.MessageGroupId = sdk.String("holdfast")
		in.MessageDeduplicationId = sdk.String(deduplication(m.ID))
	}
	_, err := s.client.Publish(ctx, in)
	if err == nil {
		return nil
	}
	explained := s.access.explain(ctx, "sns:Publish", err)
	if refused := new(AccessError); errors.As(explained, &refused) {
		return &watch.PermanentError{Err: refused, Advice: refused.Hint()}
	}
	code := ""
	if api := smithy.APIError(nil); errors.As(err, &api) {
		code = api.ErrorCode()
	}
	switch code {
	case "NotFound", "NotFoundException":
		return &watch.PermanentError{Err: explained, Advice: "the topic is not there: check its ARN"}
	case "InvalidParameter", "InvalidParameterException", "InvalidParameterValue", "ParameterValueInvalid", "ValidationError":
		return &watch.PermanentError{Err: explained, Advice: "check the topic's ARN and its settings"}
	case "EndpointDisabled", "KMSDisabled", "KMSNotFound", "KMSInvalidState", "KMSOptInRequired", "KMSAccessDenied":
		return &watch.PermanentError{Err: explained, Advice: "let Holdfast's identity use the key with which the topic is encrypted (kms:GenerateDataKey, kms:Decrypt)"}
	}
	return explained
}

// subject is what SNS takes as one: ASCII, in one line, not beginning with a
// blank, 100 characters at most.
func subject(title string) string {
	s := strings.Map(func(r rune) rune {
		if r > '~' {
			return '?'
		}
		return r
	}, watch.Clean(title, 4*maxSubject))
	if s = strings.TrimSpace(s[:min(len(s), maxSubject)]); s == "" {
		return "Holdfast"
	}
	return s
}

// message is the text, in characters that XML has, with the link.
func message(m watch.Message) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r == 0xfffe || r == 0xffff {
			return -1
		}
		return r
	}, strings.ToValidUTF8(m.Text, ""))
	link := watch.Clean(m.Link, 2000)
	size := func(s string) int { return len(s) }
	if link != "" {
		text = watch.Cut(text, maxMessage-len(link)-2, size) + "\n\n" + link
	} else {
		text = watch.Cut(text, maxMessage, size)
	}
	if text = strings.TrimSpace(text); text == "" {
		// SNS refuses an empty message.
		text = subject(m.Title)
	}
	return text
}

// kinds is the attribute of the events' kinds, or nil where there is none.
func kinds(events []watch.Event) *types.MessageAttributeValue {
	var all []string
	for _, e := range events {
		if kind := watch.Clean(e.Kind, 100); kind != "" && !slices.Contains(all, kind) && len(all) < 50 {
			all = append(all, kind)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return &types.MessageAttributeValue{DataType: sdk.String("String"), StringValue: &all[0]}
	}
	slices.Sort(all)
	list, err := json.Marshal(all)
	if err != nil {
		return nil
	}
	return &types.MessageAttributeValue{DataType: sdk.String("String.Array"), StringValue: sdk.String(string(list))}
}

// deduplication is the message's id where SNS takes it, else one made of it.
func deduplication(id string) string {
	plain := func(r rune) bool { return r > ' ' && r <= '~' }
	if id != "" && len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool { return !plain(r) }) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}
