package node

import (
	"strings"
	"testing"
	"time"

	"isthmus/internal/config"
)

func TestUnusableSettingsOfTheAuthorityStopTheStart(t *testing.T) {
	n := &Node{cfg: &config.Settings{}}
	c := &n.cfg.Connect.CAConfig
	c.LeafCertTTL, c.IntermediateCertTTL, c.RootCertTTL = time.Hour, 3*time.Hour, 9*time.Hour
	if got, err := n.authority(); err != nil || got.LeafTTL != time.Hour || got.IntermediateTTL != 3*time.Hour || got.RootTTL != 9*time.Hour {
		t.Errorf("got %+v, %v", got, err)
	}
	c.PrivateKeyType, c.PrivateKeyBits = "rsa", 1024
	if _, err := n.authority(); err == nil || !strings.Contains(err.Error(), "connect.ca_config: private_key_bits 1024") {
		t.Errorf("got %v, want the setting named", err)
	}
}
