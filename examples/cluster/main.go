// Cluster shows what sessions are worth when one server becomes many, and while
// these fail. It starts a Redis Cluster of three masters and three replicas, four
// application processes behind a proxy, and simulated users with cookie jars, who
// sign in on three devices of which two may be signed in, change a cart from two
// tabs at once, watch streams, get new ids, sign out, and sign out elsewhere.
// Meanwhile a schedule kills and moves things.
//
//	go run ./examples/cluster -engine cluster -minutes 1
//	go run ./examples/cluster -engine redis -minutes 1
//
// Each user waits for the answers of a step before the next one, and so knows what
// must be seen. The checker reports a violation, with the history of the user, and
// the program ends with status 1, if
//
//   - a user sees another session, or data that is not of this session;
//   - an acknowledged change is lost (an answer of 200; after any other answer, and
//     after none, both values are right);
//   - a session lives that was signed out, revoked, moved to another id, or ended by
//     the limit, or one is gone that nobody ended;
//   - a stream goes on 15 seconds after its session ended, or after the engine came
//     back, or tells the end of a session that lives;
//   - an end is told by no process, or twice (Config.OnEvent).
//
// The faults, and what each may cost:
//
//   - process: an application process is killed, and another one started. Requests
//     under way get no answer.
//   - slots (cluster): some slots move from a master to another. Nothing.
//   - master (cluster): a master is killed, and its replica takes over. Requests fail
//     meanwhile. The engine may lose what it acknowledged shortly before, since the
//     store does not wait for replicas (docs/OPERATIONS.md): it is counted apart, if it was
//     acknowledged from 2 seconds before the kill until 6 seconds after the return.
//   - restart (redis): the server is killed, and started again. Requests fail
//     meanwhile. With appendfsync always, nothing that was acknowledged is lost.
//   - slow, cut (redis): the network between the applications and Redis takes 200 ms
//     more in each direction, and stops for three seconds. A cluster has neither of
//     them, since its nodes announce their own addresses.
//   - keys: a new secret comes into the key ring in the three steps of
//     docs/OPERATIONS.md. Nothing.
//
// With -break, the applications have a fault of their own, which the checker must
// find: versions (an update does not look at the version of the record), revive (an
// update of a deleted record stores it again), mine (a merge takes the changes of
// its own request only) or deaf (Watch is not told of changes).
//
// The program needs the command redis-server (Debian's package redis-server). It is a
// module of its own, because it requires a client of Redis.
package main

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/typedsessions/sessions"
)

// appFlag makes this program an application process.
const appFlag = "-app"

// Options are those of a run.
type options struct {
	engine    string
	users     int
	processes int
	think     time.Duration
	duration  time.Duration
	faults    []string // nil: all that the engine has
	fault     string   // see breakStore
	stopEarly bool     // at the first violation
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
	flag.StringVar(&o.engine, "engine", "cluster", "what holds the sessions: cluster or redis")
	minutes := flag.Float64("minutes", 1, "how long the users live")
	flag.IntVar(&o.users, "users", 200, "how many users there are")
	flag.IntVar(&o.processes, "processes", 4, "how many application processes there are")
	flag.DurationVar(&o.think, "think", time.Second, "how long a user thinks between two steps, on average")
	flag.StringVar(&o.fault, "break", "", "a fault of the applications that the checker must find: versions, revive, mine or deaf")
	faults := flag.String("faults", "", "the faults of the schedule, separated by commas (default all that the engine has)")
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
	o.out = &lockedWriter{w: o.out}
	fmt.Fprintf(o.out, "starting %s and %d application processes\n", o.engine, o.processes)
	e, err := startEngine(ctx, o.engine)
	if err != nil {
		return 0, err
	}
	defer e.stop()
	addrs := e.addrs()
	var network *link
	if o.engine == "redis" {
		if network, err = newLink(addrs[0]); err != nil {
			return 0, err
		}
		defer network.Close()
		addrs = []string{network.Addr().String()}
	}
	check := newChecker()
	s, err := startSite(ctx, addrs, o.fault, o.processes, check.heard)
	if err != nil {
		return 0, err
	}
	defer s.stop()

	living, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	if o.stopEarly {
		check.wrong = cancel
	}
	check.begun = time.Now()
	var users []*user
	var running sync.WaitGroup
	for i := range o.users {
		u := newUser(fmt.Sprintf("user%d", i), s, check, o.think)
		users = append(users, u)
		running.Go(func() { u.live(living) })
	}
	plan := schedule{engine: e, network: network, site: s, users: users, check: check, out: o.out}
	running.Go(func() { err = plan.run(living, ctx, o.faults, o.duration) })
	running.Go(func() {
		for tick := time.NewTicker(5 * time.Second); ; {
			select {
			case <-living.Done():
				tick.Stop()
				return
			case <-tick.C:
				fmt.Fprintln(o.out, check.progress())
			}
		}
	})
	running.Wait()
	s.stop()
	check.checkEnds()
	return check.report(o.out), err
}

// A lockedWriter is for several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// A schedule does the faults, one after another.
type schedule struct {
	engine  *engine
	network *link // of a single Redis
	site    *site
	users   []*user
	check   *checker
	out     io.Writer
}

// run does all faults again and again, as long as there is time: at least three
// seconds apart, and all of them once a minute. A fault that has begun goes on when
// living is done.
func (s *schedule) run(living, ctx context.Context, faults []string, d time.Duration) error {
	if faults == nil {
		faults = []string{"process", "slots", "master", "keys"}
		if s.network != nil {
			faults = []string{"process", "slow", "cut", "restart", "keys"}
		}
	}
	begun := time.Now()
	interval := min(d*3/4, time.Minute) / time.Duration(len(faults))
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
	f := s.check.begin(fault{
		name:   name,
		engine: name != "process" && name != "keys",
		loses:  name == "master",
	})
	fmt.Fprintf(s.out, "%s fault: %s\n", time.Now().Format("15:04:05.000"), name)
	note := ""
	defer func() { s.check.end(f, note) }()
	alone := s.network == nil && (name == "slow" || name == "cut" || name == "restart")
	many := s.network != nil && (name == "slots" || name == "master")
	if alone || many {
		return fmt.Errorf("fault %s: the engine does not have it", name)
	}
	pause := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	switch name {
	case "process":
		s.site.killProcess()
		return s.site.addProcess(ctx)
	case "slots":
		moved, err := s.engine.moveSlots(ctx, i, 5)
		note = fmt.Sprintf("%d slots moved", moved)
		return err
	case "master":
		return s.engine.failOver(ctx, i)
	case "restart":
		return s.engine.restart(ctx)
	case "slow":
		s.network.setDelay(200 * time.Millisecond)
		pause(3 * time.Second)
		s.network.setDelay(0)
	case "cut":
		s.network.setCut(true)
		pause(3 * time.Second)
		s.network.setCut(false)
	case "keys":
		note, err = s.rotateKeys(living, ctx)
		return err
	default:
		return fmt.Errorf("fault %s: want process, slots, master, restart, slow, cut or keys", name)
	}
	return nil
}

// rotateKeys brings a new secret into the key ring, as docs/OPERATIONS.md has it.
func (s *schedule) rotateKeys(living, ctx context.Context) (note string, err error) {
	old, fresh := s.site.secrets[0], sessions.NewSecret()
	if err := s.site.setSecrets(ctx, old, fresh); err != nil {
		return "", err
	}
	if err := s.site.setSecrets(ctx, fresh, old); err != nil {
		return "", err
	}
	// The third step is for when no session has a cookie of the old secret: here, as
	// soon as every user has used every session.
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
