package gossip

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// keySize selects AES-256.
const keySize = 32

// NewKey makes a key in the form in which people and files hold it.
func NewKey() (string, error) {
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return "", fmt.Errorf("make gossip key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(key), nil
}

// ParseKey takes a key in the form of NewKey, for AES-128, AES-192 or AES-256.
func ParseKey(s string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	if err := memberlist.ValidateKey(key); err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	return key, nil
}

// keyring are the keys of the file when there is one. Otherwise they are the given ones, which make the file.
func keyring(file string, given [][]byte) ([][]byte, error) {
	if file == "" {
		return given, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return given, writeKeyring(file, given)
	}
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	var encoded []string
	if err := json.Unmarshal(data, &encoded); err != nil {
		return nil, fmt.Errorf("read keyring %s: %w", file, err)
	}
	keys := make([][]byte, len(encoded))
	for i, s := range encoded {
		if keys[i], err = ParseKey(s); err != nil {
			return nil, fmt.Errorf("read keyring %s: %w", file, err)
		}
	}
	return keys, nil
}

// writeKeyring writes what the library would, once a key operation changed the keys.
func writeKeyring(file string, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	encoded := make([]string, len(keys))
	for i, key := range keys {
		encoded[i] = base64.StdEncoding.EncodeToString(key)
	}
	data, err := json.MarshalIndent(encoded, "", "  ")
	if err != nil {
		return fmt.Errorf("write keyring: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("write keyring: %w", err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("write keyring: %w", err)
	}
	return nil
}

// KeyReply is what the members answered to a key operation. The keys are those of the pool, so it is a secret.
type KeyReply struct {
	// Messages hold what went wrong, by member.
	Messages map[string]string
	// NumNodes were asked, NumResp answered, NumErr of these with an error.
	NumNodes, NumResp, NumErr int
	// Keys and PrimaryKeys count the members that hold a key, or encrypt with it.
	Keys, PrimaryKeys map[string]int
}

// InstallKey adds a key to the keyring of every member. Like the other key operations it waits for their answers, and
// fails, with the answers that came, when not all say that they succeeded. With relay the answers also go through as
// many other members, against packet loss.
func (p *Pool) InstallKey(key string, relay uint8) (KeyReply, error) {
	return keyReply("install", func(o *serf.KeyRequestOptions) (*serf.KeyResponse, error) {
		return p.serf.KeyManager().InstallKeyWithOptions(key, o)
	}, relay)
}

// UseKey makes every member encrypt with a key that all have.
func (p *Pool) UseKey(key string, relay uint8) (KeyReply, error) {
	return keyReply("use", func(o *serf.KeyRequestOptions) (*serf.KeyResponse, error) {
		return p.serf.KeyManager().UseKeyWithOptions(key, o)
	}, relay)
}

// RemoveKey takes a key, which must not be in use, from the keyring of every member.
func (p *Pool) RemoveKey(key string, relay uint8) (KeyReply, error) {
	return keyReply("remove", func(o *serf.KeyRequestOptions) (*serf.KeyResponse, error) {
		return p.serf.KeyManager().RemoveKeyWithOptions(key, o)
	}, relay)
}

// ListKeys asks every member for its keys.
func (p *Pool) ListKeys(relay uint8) (KeyReply, error) {
	return keyReply("list", p.serf.KeyManager().ListKeysWithOptions, relay)
}

func keyReply(op string, ask func(*serf.KeyRequestOptions) (*serf.KeyResponse, error), relay uint8) (KeyReply, error) {
	var reply KeyReply
	r, err := ask(&serf.KeyRequestOptions{RelayFactor: relay})
	if r != nil {
		reply = KeyReply(*r)
	}
	if err != nil {
		return reply, fmt.Errorf("gossip: %s key: %w", op, err)
	}
	return reply, nil
}
