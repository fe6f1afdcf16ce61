package provider

import (
	"context"
	"errors"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"holdfast/smallcloud"
)

// server is the resource smallcloud_server.
type server struct{ client *client }

var (
	_ resource.ResourceWithConfigure   = (*server)(nil)
	_ resource.ResourceWithImportState = (*server)(nil)
)

type serverModel struct {
	ID       types.String `tfsdk:"id"`
	Name     types.String `tfsdk:"name"`
	Size     types.String `tfsdk:"size"`
	Tags     types.Map    `tfsdk:"tags"`
	Password types.String `tfsdk:"password"`
	Delay    types.String `tfsdk:"delay"`
	Fail     types.String `tfsdk:"fail"`
	Churn    types.String `tfsdk:"churn"`
	ETag     types.String `tfsdk:"etag"`
	Address  types.String `tfsdk:"address"`
}

func (s *server) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_server"
}

func (s *server) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	optional := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Description: description, Optional: true}
	}
	password := optional("A secret.")
	password.Sensitive = true
	resp.Schema = schema.Schema{
		Description: "A server in the small cloud.",
		Attributes: map[string]schema.Attribute{
			"id":       fixed("The cloud's name for the server; a new one for each creation."),
			"address":  fixed("The server's network address."),
			"etag":     schema.StringAttribute{Description: "Changes with the server, and with each read where churn is \"true\".", Computed: true},
			"name":     schema.StringAttribute{Description: "The server's name.", Required: true},
			"size":     optional("How large it is."),
			"tags":     schema.MapAttribute{Description: "Labels.", ElementType: types.StringType, Optional: true},
			"password": password,
			"delay":    optional("How long the cloud takes to create or update it, such as \"3s\"."),
			"fail":     optional("The operation that the cloud refuses: \"create\", \"read\", \"update\" or \"delete\"."),
			"churn":    optional("\"true\" lets the etag change with each read."),
		},
	}
}

// fixed is a computed attribute that is the same for the resource's life.
func fixed(description string) schema.StringAttribute {
	return schema.StringAttribute{
		Description:   description,
		Computed:      true,
		PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
	}
}

func (s *server) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	s.client = configured(req.ProviderData, &resp.Diagnostics)
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

func (s *server) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m serverModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	made, err := s.client.create(ctx, m.spec())
	if err != nil {
		resp.Diagnostics.AddError("Cannot create server "+m.Name.ValueString(), err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m.with(made))...)
}

func (s *server) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m serverModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	found, err := s.client.read(ctx, m.ID.ValueString())
	if errors.Is(err, errGone) || err == nil && found.Kind != kindServer {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("Cannot read server "+m.ID.ValueString(), err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m.with(found))...)
}

func (s *server) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m serverModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	changed, err := s.client.update(ctx, m.ID.ValueString(), m.spec())
	if err != nil {
		resp.Diagnostics.AddError("Cannot update server "+m.Name.ValueString(), err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m.with(changed))...)
}

func (s *server) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m serverModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := s.client.remove(ctx, m.ID.ValueString()); err != nil {
		resp.Diagnostics.AddError("Cannot delete server "+m.Name.ValueString(), err.Error())
	}
}

func (s *server) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("id"), req, resp)
}

const kindServer = "server"

func (m serverModel) spec() smallcloud.Spec {
	attributes := map[string]any{}
	put(attributes, "size", m.Size)
	put(attributes, "password", m.Password)
	put(attributes, "delay", m.Delay)
	put(attributes, "fail", m.Fail)
	put(attributes, "churn", m.Churn)
	if !m.Tags.IsNull() {
		tags := map[string]any{}
		for k, v := range m.Tags.Elements() {
			if s, ok := v.(types.String); ok && !s.IsNull() {
				tags[k] = s.ValueString()
			}
		}
		attributes["tags"] = tags
	}
	return smallcloud.Spec{Kind: kindServer, Name: m.Name.ValueString(), Attributes: attributes}
}

// with returns m as the cloud says that it is.
func (m serverModel) with(r smallcloud.Resource) serverModel {
	m.ID, m.Name = types.StringValue(r.ID), types.StringValue(r.Name)
	m.ETag, m.Address = types.StringValue(r.ETag), types.StringValue(r.Address)
	m.Size = get(r.Attributes, "size")
	m.Password = get(r.Attributes, "password")
	m.Delay = get(r.Attributes, "delay")
	m.Fail = get(r.Attributes, "fail")
	m.Churn = get(r.Attributes, "churn")
	m.Tags = getMap(r.Attributes, "tags")
	return m
}
