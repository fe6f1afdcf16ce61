package aws

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"holdfast/store"
	"holdfast/watch"
)

// s3Timeout is for one request, with its retries. Files have some megabytes.
const s3Timeout = time.Minute

// S3Config says which bucket, and where.
type S3Config struct {
	// Bucket is its name. Required.
	Bucket string
	// Prefix is a directory in the bucket. Defaults to the bucket's root.
	Prefix string
	// Region of the bucket. Defaults to that of AWS's own configuration, and with
	// an Endpoint to us-east-1, which other servers than AWS's go by.
	Region string
	// Endpoint is the URL of a server that speaks S3. Defaults to AWS's.
	Endpoint string
	// PathStyle puts the bucket's name into the path instead of the host name;
	// most servers other than AWS's want that.
	PathStyle bool
	// KMSKey is the id or the ARN of the KMS key that the bucket encrypts with.
	// Defaults to the bucket's own settings.
	KMSKey string
	// RoleARN is a role to assume, and ExternalID goes with it. Default to none.
	RoleARN, ExternalID string
	// HTTPClient defaults to the SDK's.
	HTTPClient *http.Client
}

// S3 keeps files in a bucket. Safe for concurrent use.
type S3 struct {
	access access
	config S3Config
	client *s3.Client
}

var _ store.Objects = (*S3)(nil)

// NewS3 reads AWS's configuration and makes no request; see Check.
func NewS3(ctx context.Context, c S3Config) (*S3, error) {
	if c.Prefix = strings.Trim(c.Prefix, "/"); c.Prefix != "" {
		c.Prefix += "/"
	}
	// The access has no endpoint: AWS's own STS gives the role, and retries wait.
	s := &S3{access: access{region: c.Region, roleARN: c.RoleARN, externalID: c.ExternalID, client: c.HTTPClient}, config: c}
	if c.Endpoint != "" {
		s.access.region = cmp.Or(c.Region, "us-east-1")
	}
	cfg, err := s.access.load(ctx)
	if err != nil {
		return nil, err
	}
	s.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = c.PathStyle
		if c.Endpoint != "" {
			o.BaseEndpoint = &c.Endpoint
		}
		// The SDK would send a checksum behind the data, in a form that not all
		// servers read; Put sends its own. What we get was sealed.
		o.RequestChecksumCalculation = sdk.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = sdk.ResponseChecksumValidationWhenRequired
	})
	return s, nil
}

// Check writes, reads, lists and deletes a small object. What a person has to
// change is an *AccessError; other errors may go away.
func (s *S3) Check(ctx context.Context) error {
	name, data := "check/"+rand.Text(), []byte("holdfast")
	if err := s.Put(ctx, name, data); err != nil {
		return err
	}
	got, err := s.Get(ctx, name)
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("bucket %s returns something else than what was stored in it", s.config.Bucket)
	}
	return errors.Join(err, s.Delete(ctx, name))
}

// Put implements store.Objects. Errors are as for Check, here and in the other
// methods.
func (s *S3) Put(ctx context.Context, name string, data []byte) error {
	sum := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(data))
	in := &s3.PutObjectInput{
		Bucket: &s.config.Bucket, Key: s.key(name), Body: bytes.NewReader(data), ContentType: sdk.String("application/octet-stream"),
		ChecksumCRC32: sdk.String(base64.StdEncoding.EncodeToString(sum)),
	}
	if s.config.KMSKey != "" {
		in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryptionAwsKms, &s.config.KMSKey
	}
	return s.do(ctx, "s3:PutObject", func(ctx context.Context) error {
		_, err := s.client.PutObject(ctx, in)
		return err
	})
}

// Get implements store.Objects.
func (s *S3) Get(ctx context.Context, name string) (data []byte, err error) {
	err = s.do(ctx, "s3:GetObject", func(ctx context.Context) error {
		out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.config.Bucket, Key: s.key(name)})
		if err != nil {
			return err
		}
		defer out.Body.Close()
		data, err = io.ReadAll(out.Body)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Delete implements store.Objects. Objects are deleted one by one: a run has a
// few, and servers differ in what they want of a request for many.
func (s *S3) Delete(ctx context.Context, prefix string) error {
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.config.Bucket, Prefix: s.key(prefix)})
	for pages.HasMorePages() {
		var page *s3.ListObjectsV2Output
		err := s.do(ctx, "s3:ListBucket", func(ctx context.Context) (err error) {
			page, err = pages.NextPage(ctx)
			return err
		})
		if err != nil {
			return err
		}
		for _, object := range page.Contents {
			err := s.do(ctx, "s3:DeleteObject", func(ctx context.Context) error {
				_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.config.Bucket, Key: object.Key})
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *S3) key(name string) *string { return sdk.String(s.config.Prefix + name) }

// do makes a request within its time, and explains its error.
func (s *S3) do(ctx context.Context, action string, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s3Timeout)
	defer cancel()
	err := request(ctx)
	if err == nil {
		return nil
	}
	return fmt.Errorf("bucket %s: %w", s.config.Bucket, s.explain(ctx, action, err))
}

func (s *S3) explain(ctx context.Context, action string, err error) error {
	explained := s.access.explain(ctx, action, err)
	api := smithy.APIError(nil)
	if ctx.Err() != nil || !errors.As(err, &api) {
		return explained
	}
	refused := func(advice string) error {
		return &AccessError{action, errors.New(watch.Clean(api.ErrorCode()+": "+api.ErrorMessage(), 600)), advice}
	}
	kms := "let Holdfast's identity use the bucket's KMS key (kms:GenerateDataKey, kms:Decrypt)"
	switch code := api.ErrorCode(); {
	case code == "NoSuchKey":
		return store.ErrNotFound
	case code == "NoSuchBucket":
		return refused("there is no such bucket: check bucket and endpoint, or create it")
	case code == "InvalidBucketName":
		return refused("check bucket, which is the name alone")
	case code == "PermanentRedirect", code == "AuthorizationHeaderMalformed", code == "IllegalLocationConstraintException", code == "MovedPermanently":
		return refused(s.regionAdvice(err))
	case strings.HasPrefix(code, "KMS."):
		return refused("check kms_key, and " + kms)
	case code == "AccessDenied" && strings.Contains(strings.ToLower(api.ErrorMessage()), "kms"):
		return refused(kms)
	case code == "AccessDenied" && action == "s3:GetObject":
		// Without the right to list, S3 does not say that something is missing.
		return refused("give Holdfast's identity the permissions s3:GetObject and s3:ListBucket")
	case code == "InvalidAccessKeyId":
		return refused("the server does not know these credentials: check AWS_ACCESS_KEY_ID and the endpoint")
	}
	return explained
}

// regionAdvice names the bucket's region where S3 tells it.
func (s *S3) regionAdvice(err error) string {
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		if region := watch.Clean(response.Response.Header.Get("X-Amz-Bucket-Region"), maxText); region != "" {
			return fmt.Sprintf("the bucket is in another region: write region = %q", region)
		}
	}
	return "the bucket is in another region, or behind another endpoint: check region and endpoint"
}
