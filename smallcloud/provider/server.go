package provider

import (
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"holdfast/smallcloud"
)

const kindServer = "server"

// newServer is the resource smallcloud_server.
func newServer() resource.Resource {
	optional := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Description: description, Optional: true}
	}
	password := optional("A secret.")
	password.Sensitive = true
	return &kind[serverModel]{name: kindServer, schema: schema.Schema{
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
	}}
}

// fixed is a computed attribute that is the same for the resource's life.
func fixed(description string) schema.StringAttribute {
	return schema.StringAttribute{
		Description:   description,
		Computed:      true,
		PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
	}
}

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

func (m serverModel) id() string { return m.ID.ValueString() }

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
