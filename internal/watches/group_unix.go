//go:build unix

package watches

import (
	"os/exec"
	"syscall"
)

// inGroup makes a command the leader of a group of its own, which is killed with
// all its members when the command's context is done.
func inGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		// That nothing is left is what is wanted.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return nil
	}
}
