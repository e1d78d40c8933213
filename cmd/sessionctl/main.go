package main

import (
	_ "embed"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/keys"
)

//go:embed doc.go
var doc string

// Exit statuses.
const (
	done    = 0
	refused = 1
	wrong   = 2
)

const keysVariable = "SESSION_KEYS"

func main() {
	c := command{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	os.Exit(c.run(os.Args[1:]))
}

// A command is one invocation of sessionctl.
type command struct {
	in       io.Reader
	out, err io.Writer
}

func (c *command) run(args []string) int {
	if len(args) == 0 {
		return c.wrong(errors.New("no command, need keygen, inspect, rotate, help or version"))
	}
	name, args := args[0], args[1:]
	status, err := done, error(nil)
	switch name {
	case "keygen":
		err = c.keygen(args)
	case "inspect":
		status, err = c.inspect(args)
	case "rotate":
		err = c.rotate(args)
	case "help", "-h", "-help", "--help":
		c.help()
	case "version", "-version", "--version":
		c.version()
	default:
		// The argument may be a cookie, so the error does not show it.
		err = errors.New("unknown command, need keygen, inspect, rotate, help or version")
	}
	if errors.Is(err, flag.ErrHelp) {
		c.help()
		return done
	}
	if err != nil {
		return c.wrong(err)
	}
	return status
}

func (c *command) wrong(err error) int {
	_, _ = fmt.Fprintf(c.err, "sessionctl: %v\nRun 'sessionctl help' for usage.\n", err)
	return wrong
}

// help prints the package comment.
func (c *command) help() {
	for line := range strings.Lines(doc) {
		text, ok := strings.CutPrefix(line, "//")
		if !ok {
			break
		}
		_, _ = io.WriteString(c.out, strings.TrimPrefix(text, " "))
	}
}

func (c *command) version() {
	version := "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	_, _ = fmt.Fprintf(c.out, "sessionctl %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// parse parses the flags that set defines, and returns the other arguments.
func parse(name string, args []string, set func(*flag.FlagSet)) ([]string, error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	set(flags)
	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return flags.Args(), nil
}

// none returns err, or an error if there are arguments.
func none(name string, args []string, err error) error {
	if err == nil && len(args) > 0 {
		err = fmt.Errorf("%s: takes no arguments, got %d", name, len(args))
	}
	return err
}

// secrets returns the value of SESSION_KEYS and its ring.
func secrets() (string, *keys.Ring, error) {
	s := os.Getenv(keysVariable)
	if strings.TrimSpace(s) == "" {
		return "", nil, fmt.Errorf("%s is not set, need the secrets of the application; sessionctl keygen prints a new one", keysVariable)
	}
	ring, err := ringOf(s)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", keysVariable, err)
	}
	return s, ring, nil
}

func ringOf(list string) (*keys.Ring, error) {
	secrets, err := keys.Parse(list)
	if err != nil {
		return nil, err
	}
	return keys.NewRing(secrets)
}

func newSecret() string { return base64.StdEncoding.EncodeToString(sessions.NewSecret()) }

func (c *command) keygen(args []string) error {
	args, err := parse("keygen", args, func(*flag.FlagSet) {})
	if err := none("keygen", args, err); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, newSecret())
	return err
}

// maxSecrets is the largest number of secrets in a Keyring.
const maxSecrets = 16

func (c *command) rotate(args []string) error {
	var behind bool
	var keepFlag string // not an IntVar, whose error would show a secret that stands here
	args, err := parse("rotate", args, func(f *flag.FlagSet) {
		f.BoolVar(&behind, "behind", false, "")
		f.StringVar(&keepFlag, "keep", strconv.Itoa(maxSecrets), "")
	})
	if err := none("rotate", args, err); err != nil {
		return err
	}
	least := 1
	if behind {
		least = 2 // the secret that signs, and the new one
	}
	keep, err := strconv.Atoi(keepFlag)
	if err != nil || keep < least || keep > maxSecrets {
		return fmt.Errorf("rotate: wrong -keep, need a number from %d to %d", least, maxSecrets)
	}
	present, ring, err := secrets()
	if err != nil {
		return err
	}
	var list []string
	for secret := range strings.SplitSeq(present, ",") {
		list = append(list, strings.TrimSpace(secret))
	}
	kept := min(len(list), keep-1)
	fresh := newSecret()
	added, err := ringOf(fresh)
	if err != nil {
		return err
	}
	next, signs := append([]string{fresh}, list[:kept]...), "signs from now on"
	if behind {
		next, signs = append(list[:kept:kept], fresh), "is accepted but does not sign yet"
	}
	if _, err := fmt.Fprintln(c.out, strings.Join(next, ",")); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.err, "new: key %x %s\n", added.IDs()[0], signs)
	for i, id := range ring.IDs() {
		what := "kept: key %x\n"
		if i >= kept {
			what = "dropped: key %x, its cookies are refused from now on\n"
		}
		_, _ = fmt.Fprintf(c.err, what, id)
	}
	return nil
}
