// Package deploy has no code: it tests what this directory offers for
// installing Holdfast. It is a module of its own, so that Helm's and Compose's
// libraries stay out of the product.
package deploy
