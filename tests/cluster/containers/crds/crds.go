// Package crds makes this module require the Gateway API, whose custom resource definitions are files in it.
package crds

import _ "sigs.k8s.io/gateway-api/apis/v1"
