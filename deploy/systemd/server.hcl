url      = "https://holdfast.example.com" # how people and the host reach this server
data_dir = "/var/lib/holdfast"

host "github" "github.com" {
  token          = env("GITHUB_TOKEN")
  webhook_secret = env("GITHUB_WEBHOOK_SECRET")
}

repository "github.com/acme/*" {}

engine {
  pass = ["AWS_*", "TF_VAR_*"] # what Terraform may see of this server's environment
}
