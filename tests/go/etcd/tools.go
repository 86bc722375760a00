//go:build tools

// Package etcd pins, through the go.mod beside it, every module that the bed's etcd binaries are built from. It
// holds no code: `go mod tidy` needs the imports to know what to keep.
package etcd

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
