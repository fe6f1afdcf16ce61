// Command terraform-provider-smallcloud is the small cloud's provider as a
// program of its own, for a filesystem mirror.
package main

import (
	"context"
	"fmt"
	"os"

	fw "github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"holdfast/smallcloud/provider"
)

func main() {
	factory := func() fw.Provider { return provider.New("") }
	if err := providerserver.Serve(context.Background(), factory, providerserver.ServeOpts{Address: provider.Address}); err != nil {
		fmt.Fprintln(os.Stderr, "serve provider:", err)
		os.Exit(1)
	}
}
