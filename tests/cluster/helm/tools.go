//go:build tools

// Package helm pins the helm command that installs the chart in tests.
package helm

import _ "helm.sh/helm/v3/cmd/helm"
