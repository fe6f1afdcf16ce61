package provider

import (
	"context"
	"errors"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"

	"holdfast/smallcloud"
)

// model is what a plan or a state says of a resource of one kind.
type model[M any] interface {
	id() string
	spec() smallcloud.Spec
	// with returns the model as the cloud says that it is.
	with(smallcloud.Resource) M
}

// kind is a kind of resource: all kinds are made, read, changed and deleted in
// the same way.
type kind[M model[M]] struct {
	name   string // in the cloud, and behind "smallcloud_"
	schema schema.Schema
	client *client
}

func (k *kind[M]) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + k.name
}

func (k *kind[M]) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = k.schema
}

func (k *kind[M]) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	k.client = configured(req.ProviderData, &resp.Diagnostics)
}

// configured returns what the provider's Configure left; nil before that.
func configured(data any, diags *diag.Diagnostics) *client {
	if data == nil {
		return nil
	}
	c, ok := data.(*client)
	if !ok {
		diags.AddError("The provider is not configured", "This is a mistake in the provider.")
	}
	return c
}

func (k *kind[M]) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m M
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	made, err := k.client.create(ctx, m.spec())
	if err != nil {
		resp.Diagnostics.AddError("Cannot create "+k.name+" "+m.spec().Name, err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m.with(made))...)
}

func (k *kind[M]) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m M
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	found, err := k.client.read(ctx, m.id())
	if errors.Is(err, errGone) || err == nil && found.Kind != k.name {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("Cannot read "+k.name+" "+m.id(), err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m.with(found))...)
}

func (k *kind[M]) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m M
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	changed, err := k.client.update(ctx, m.id(), m.spec())
	if err != nil {
		resp.Diagnostics.AddError("Cannot update "+k.name+" "+m.spec().Name, err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m.with(changed))...)
}

func (k *kind[M]) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m M
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := k.client.remove(ctx, m.id()); err != nil {
		resp.Diagnostics.AddError("Cannot delete "+k.name+" "+m.spec().Name, err.Error())
	}
}

func (k *kind[M]) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("id"), req, resp)
}
