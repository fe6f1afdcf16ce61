url   = "https://holdfast.example.com" # how people and the host reach the web node
store = "redis://redis:6379"

redis {
  password = env("REDIS_PASSWORD")
}

host "github" "github.com" {
  token          = env("GITHUB_TOKEN")
  webhook_secret = env("GITHUB_WEBHOOK_SECRET")
}

repository "github.com/acme/*" {}

engine {
  pass = ["AWS_*", "TF_VAR_*"] # what Terraform may see of this server's environment
}
