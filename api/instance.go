package api

import "sync/atomic"

// Instance is an instance with its node and the checks of both, as the catalog
// holds it: nothing of it changes any more.
type Instance struct {
	CheckServiceNode

	text atomic.Pointer[[]byte]
}

// Text returns what render makes of the instance. It is made once and kept, so
// every caller must render alike, and none may change it.
func (i *Instance) Text(render func(*CheckServiceNode) []byte) []byte {
	if text := i.text.Load(); text != nil {
		return *text
	}
	text := render(&i.CheckServiceNode)
	i.text.Store(&text)
	return text
}
