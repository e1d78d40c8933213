// Cluster runs a shop on several processes and a store that fails, and checks what
// its users see. It starts the servers of the store, four application processes behind
// a proxy, and simulated users with cookie jars. Each user has three devices, of which
// two may be signed in. Users sign in, change a cart from two tabs at once, watch
// streams, rotate ids, sign out, and sign out elsewhere. Meanwhile a schedule of faults
// kills servers, moves slots, replaces keys and deploys other releases.
//
//	go run ./examples/cluster -engine cluster -minutes 5
//
// The engines are
//
//   - redis: a Redis server.
//   - cluster: a Redis Cluster of three masters and three replicas.
//   - sentinel: a Redis master, two replicas, and three sentinels.
//   - postgres: a primary of PostgreSQL and a standby by streaming replication. Commits
//     wait for the standby.
//
// It needs the command redis-server (Debian's package redis-server), or PostgreSQL
// (Debian's package postgresql). Other flags set the number of users and processes, the
// think time, and the faults: see -help.
//
// # The checker
//
// A user waits for the answers of a step before the next step, and so knows what the
// next answer must hold. The program prints each violation with the history of the
// user, and exits with status 1 if
//
//   - a user sees another user's session, or data that is not of this session;
//   - an acknowledged change is lost. An answer of 200 acknowledges a change. After any
//     other answer, or none, both states are allowed;
//   - a session still lives after it was signed out, revoked, moved to another id or
//     ended by the limit, or a session is gone that nobody ended;
//   - a stream is open 15 seconds after its session ended, or after the store came
//     back if that was later, or a stream tells the end of a session that lives;
//   - no process told an acknowledged end (Config.OnEvent), or an end was told twice;
//   - an application process ends that was not killed, or needs more and more memory,
//     goroutines, descriptors or connections: the median of the last third of its life
//     is above that of the first third by a half and a bit. Its first minute does not
//     count;
//   - a fault cost requests that may not cost any.
//
// The flag -plot draws the requests, the failures and what the processes used, with the
// faults. A run of 30 minutes shows whether processes leak: it makes each fault every
// six minutes.
//
// # The faults
//
// The report has the failed requests of each fault, and the time until the last one.
//
//   - process: an application process is killed and replaced. Requests under way fail.
//   - slots (cluster): some slots move to another master. No request fails.
//   - master (cluster, sentinel): a master is killed, and its replica takes over.
//     Requests fail meanwhile. Redis may lose the last acknowledged writes, since the
//     store does not WAIT for replicas (docs/OPERATIONS.md, Stores). The report counts
//     these losses apart, if the write was acknowledged from 2 seconds before the fault
//     until 6 seconds after it. A user who may be concerned signs in again afterwards.
//   - lag (cluster, sentinel): the same, but the replicas hang for a second before.
//     This does lose acknowledged changes, sessions, and ends of sessions.
//   - full (redis, cluster, sentinel): the servers refuse writes for three seconds, as
//     they do when their memory is full. Requests that write fail.
//   - restart (redis): Redis is killed and restarted. Requests fail meanwhile. With
//     appendfsync always, no acknowledged write is lost.
//   - primary (postgres): the primary is killed, and the standby promoted. Requests fail
//     meanwhile. No acknowledged write is lost.
//   - async (postgres): the same, but commits wait for nothing (synchronous_commit =
//     off). The last acknowledged writes are lost.
//   - slow (redis, postgres): the network between the applications and the servers takes
//     200 ms more in each direction, for three seconds. No request fails.
//   - cut, requests, answers (redis, postgres): the same network delivers nothing for
//     three seconds, or nothing in one direction. Requests take longer, and fail after
//     5 seconds.
//   - keys: a new secret is added to the key ring in the three steps of
//     docs/OPERATIONS.md. No request fails.
//   - deploy: all processes are replaced, one after another, by those of the next
//     release, or of the one before. Each new process serves before an old one gets no
//     more requests, answers those that it has (http.Server.Shutdown), and ends. No
//     request fails. Streams end, and have to be opened again.
//   - clocks: for five seconds, the clock of one process is a second ahead, and that of
//     another a second behind. No request fails. The command go builds the program for
//     it, with another package time. Users leave two more seconds between their
//     sign-ins, since the limit of sessions goes by the clocks.
//
// The releases are 1.0, 1.1 and 2.0. Release 1.1 has one more field, with the same
// schema version. What it has acknowledged is not lost while release 1.0 changes the
// same session. Release 2.0 has a new schema version and an upgrade. While older
// releases still run, and when they are back, they do not show a session that 2.0 has
// stored: the user is signed out there, which the report counts as hidden. They leave
// it alone, so that 2.0 shows it again with all changes. They can end it. A change that
// an older release has acknowledged may not be stored if 2.0 stored the session
// meanwhile. A process must have told that (EventDiscarded).
//
// The network cannot fail with the engines cluster and sentinel, since their servers
// announce their own addresses, which bypass a proxy.
//
// # Faults of the application
//
// The flag -break gives the application a fault, which the checker must find:
// versions (an update does not compare the version of the record), revive (an update
// of a deleted record stores it again), touch (the use of a deleted record does), mine
// (a merge keeps the changes of its own request only), schema (a release changes the
// type without a new schema version) or deaf (the store tells Watch nothing).
//
// It is a module of its own, because it requires clients of Redis and PostgreSQL, and
// what draws and shows the progress.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/typedsessions/sessions"
)

// appFlag makes this program an application process.
const appFlag = "-app"

// Options configure a run.
type options struct {
	engine    string
	users     int
	processes int
	think     time.Duration
	duration  time.Duration
	faults    []string // nil: all that the engine has
	fault     string   // of the applications: see -break
	plot      string   // a file to draw into
	stopEarly bool     // stop at the first violation
	out       io.Writer
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == appFlag {
		if err := runApp(); err != nil {
			fmt.Fprintln(os.Stderr, "application process:", err)
			os.Exit(1)
		}
		return
	}
	o := options{out: os.Stdout}
	flag.StringVar(&o.engine, "engine", "cluster", "what holds the sessions: redis, cluster, sentinel or postgres")
	minutes := flag.Float64("minutes", 1, "how long the users live")
	flag.IntVar(&o.users, "users", 200, "how many users there are")
	flag.IntVar(&o.processes, "processes", 4, "how many application processes there are")
	flag.DurationVar(&o.think, "think", time.Second, "how long a user thinks between two steps, on average")
	flag.StringVar(&o.fault, "break", "", "a fault of the applications that the checker must find: versions, revive, touch, mine, schema or deaf")
	faults := flag.String("faults", "", "the faults of the schedule, separated by commas (default all that the engine has)")
	flag.StringVar(&o.plot, "plot", "", "a file to draw the run into, whose name ends with .svg or .png")
	flag.Parse()
	o.duration = time.Duration(*minutes * float64(time.Minute))
	if *faults != "" {
		o.faults = strings.Split(*faults, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	violations, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
	}
	if err != nil || violations > 0 {
		os.Exit(1)
	}
}

// run starts everything, lets the users live, and reports.
func run(ctx context.Context, o options) (violations int, err error) {
	if o.users < 1 || o.processes < 2 {
		return 0, errors.New("want at least one user and two processes")
	}
	// A user does not know that a device has been idle for too long.
	if most := idleTimeout / 20; o.think > most {
		return 0, fmt.Errorf("-think %v: want at most %v, since sessions end after %v without use", o.think, most, idleTimeout)
	}
	show := &screen{out: o.out}
	o.out = show
	fmt.Fprintf(o.out, "starting %s and %d application processes\n", o.engine, o.processes)
	e, err := startEngine(ctx, o.engine)
	if err != nil {
		return 0, err
	}
	defer e.stop()
	names := []string{"process", "deploy", "keys"}
	if _, err := exec.LookPath("go"); err == nil {
		names = append(names, "clocks")
	} else if o.faults == nil {
		fmt.Fprintln(o.out, "without the command go there is no fault clocks")
	}
	for _, f := range e.faults {
		names = append(names, f.name)
	}
	if o.faults == nil {
		o.faults = names
	}
	for _, f := range o.faults {
		if !slices.Contains(names, f) {
			return 0, fmt.Errorf("-faults %s: want some of %s", f, strings.Join(names, ","))
		}
	}
	skewed := ""
	if slices.Contains(o.faults, "clocks") {
		fmt.Fprintln(o.out, "building the application with a clock that can be set")
		if skewed, err = buildSkewed(ctx, e.dir, sourceDir(), "."); err != nil {
			return 0, err
		}
	}
	check := newChecker()
	s, err := startSite(ctx, e.connect, o.fault, o.processes, check.heard)
	if err != nil {
		return 0, err
	}
	defer s.stop()
	s.skewed = skewed

	living, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	if o.stopEarly {
		check.wrong = cancel
	}
	check.begun, check.lasts = time.Now(), o.duration
	var users []*user
	var running sync.WaitGroup
	for i := range o.users {
		u := newUser(fmt.Sprintf("user%d", i), s, check, o.think)
		users = append(users, u)
		running.Go(func() { u.live(living) })
	}
	plan := schedule{engine: e, site: s, users: users, check: check, out: o.out}
	running.Go(func() {
		if err = plan.run(living, ctx, o.faults, o.duration); err != nil {
			cancel()
		}
	})
	show.show(o.duration, check.progress)
	running.Wait()
	s.stop()
	show.hide()
	check.checkEnds()
	check.checkDiscards()
	check.checkCosts()
	check.checkUsage()
	violations = check.report(o.out)
	if o.plot != "" {
		err = errors.Join(err, check.plot(o.plot))
	}
	return violations, err
}

// A schedule makes the faults, one after another.
type schedule struct {
	engine *engine
	site   *site
	users  []*user
	check  *checker
	out    io.Writer

	deployed int // deployments so far
}

// run makes the faults in turn, each of them about once a minute, five times in a run
// of more than five minutes, and once in one of less than a minute. It begins no fault
// after living is done, and ends the one that it has begun.
func (s *schedule) run(living, ctx context.Context, faults []string, d time.Duration) error {
	begun := time.Now()
	// A longer run has as few faults as one of five minutes, so that processes grow old.
	interval := min(d*3/4, max(time.Minute, d/5)) / time.Duration(len(faults))
	for i := 0; ; i++ {
		next := begun.Add(interval/2 + time.Duration(i)*interval)
		if next.Sub(begun) > d*4/5 {
			return nil
		}
		select {
		case <-living.Done():
			return nil
		case <-time.After(max(time.Until(next), min(3*time.Second, interval/2))):
		}
		if err := s.do(living, ctx, faults[i%len(faults)], i); err != nil {
			return err
		}
	}
}

func (s *schedule) do(living, ctx context.Context, name string, i int) (err error) {
	var ofEngine engineFault
	if at := slices.IndexFunc(s.engine.faults, func(f engineFault) bool { return f.name == name }); at >= 0 {
		ofEngine = s.engine.faults[at]
	}
	f := s.check.begin(fault{name: name, engine: ofEngine.do != nil, loses: ofEngine.loses})
	fmt.Fprintf(s.out, "%s fault: %s\n", time.Now().Format("15:04:05.000"), name)
	note := ""
	defer func() { s.check.end(f, note) }()
	switch name {
	case "process":
		s.site.killProcess()
		return s.site.addProcess(ctx)
	case "keys":
		note, err = s.rotateKeys(living, ctx)
		return err
	case "deploy":
		note, err = s.deploy(ctx)
		return err
	case "clocks":
		return s.skewClocks(ctx)
	}
	note, err = ofEngine.do(ctx, i)
	return err
}

// rotateKeys replaces the secret of the key ring in the three steps of
// docs/OPERATIONS.md.
func (s *schedule) rotateKeys(living, ctx context.Context) (note string, err error) {
	old, fresh := s.site.secrets[0], sessions.NewSecret()
	if err := s.site.setSecrets(ctx, old, fresh); err != nil {
		return "", err
	}
	if err := s.site.setSecrets(ctx, fresh, old); err != nil {
		return "", err
	}
	// The old secret can be removed when no live session has a cookie that it signed.
	// Here, that is when every user has used every session since the second step.
	signs := time.Now()
	err = eventually(living, "the old secret stays: some sessions were not used", func() bool {
		for _, u := range s.users {
			if u.cookieAge.Load() < signs.UnixNano() {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err.Error(), nil
	}
	return "all three steps", s.site.setSecrets(ctx, fresh)
}

func ring(secrets [][]byte) string {
	var all []string
	for _, s := range secrets {
		all = append(all, base64.StdEncoding.EncodeToString(s))
	}
	return strings.Join(all, ",")
}
