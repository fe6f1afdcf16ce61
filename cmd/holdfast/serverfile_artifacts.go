package main

import (
	"errors"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"holdfast/aws"
)

// artifacts reads the artifacts block: where plans are kept, if not in the store.
func (f *serverFile) artifacts(b *hclsyntax.Block, to *aws.S3Config) {
	if len(b.Labels) != 1 || b.Labels[0] != "s3" {
		f.problem(b.TypeRange, `write artifacts "s3" { … }, or leave the block out`, `an artifacts block has one label, "s3"`)
		return
	}
	f.known(b.Body, `artifacts "s3"`, []string{"bucket", "prefix", "region", "endpoint", "path_style", "kms_key", "role_arn", "external_id"}, nil)
	f.text(b.Body, "bucket", &to.Bucket, checkBucket)
	f.text(b.Body, "prefix", &to.Prefix, notEmpty)
	f.text(b.Body, "region", &to.Region, notEmpty)
	f.text(b.Body, "endpoint", &to.Endpoint, checkURL)
	f.boolean(b.Body, "path_style", &to.PathStyle)
	f.text(b.Body, "kms_key", &to.KMSKey, notEmpty)
	f.text(b.Body, "role_arn", &to.RoleARN, notEmpty)
	f.text(b.Body, "external_id", &to.ExternalID, notEmpty)
	if _, ok := b.Body.Attributes["bucket"]; !ok {
		f.problem(b.TypeRange, `add bucket = "…"`, `artifacts "s3" has no bucket`)
	}
}

// checkBucket takes a bucket's name, or an access point's ARN.
func checkBucket(v string) error {
	if strings.TrimSpace(v) == "" || !strings.HasPrefix(v, "arn:") && strings.ContainsAny(v, "/: ") {
		return hinted{errors.New("is not the name of a bucket"), "write the name alone; what follows it goes to prefix, a server's address to endpoint"}
	}
	return nil
}
