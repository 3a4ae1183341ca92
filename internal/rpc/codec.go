package rpc

import (
	"fmt"
	"reflect"
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// handle speaks the protocol's dialect: msgpack before str8 and bin existed,
// structs as maps with sorted names, positive integers unsigned, times as the
// raw bytes of their binary form (wanfed-facts §4). It is set up once and only
// read from then on.
var handle = newHandle()

func newHandle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{PositiveIntUnsigned: true}
	h.RawToString = true
	h.MapType = reflect.TypeFor[map[string]any]()
	h.TypeInfos = codec.NewTypeInfos([]string{"codec"})
	h.TimeNotBuiltin = true
	h.MaxInitLen = 1 << 10 // what a length from outside may reserve before its elements arrive
	h.Canonical = true     // maps too are written in order: equal values give equal bytes
	return h
}

var encoders = sync.Pool{New: func() any { return codec.NewEncoderBytes(nil, handle) }}

var decoders = sync.Pool{New: func() any { return codec.NewDecoderBytes(nil, handle) }}

// Marshal encodes v as the protocol does.
func Marshal(v any) ([]byte, error) {
	var out []byte
	e, _ := encoders.Get().(*codec.Encoder)
	defer encoders.Put(e)
	e.ResetBytes(&out)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return out, nil
}

// Unmarshal decodes into v, which is a pointer. Names that v does not have are
// ignored and missing ones leave what is there: this is how versions mix.
func Unmarshal(b []byte, v any) error {
	d, _ := decoders.Get().(*codec.Decoder)
	defer decoders.Put(d)
	d.ResetBytes(b)
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}
