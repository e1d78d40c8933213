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
// (Debian's package postgresql). It makes every fault of the engine in turn, or those of
// the flag -faults. A run of less than a minute has no time for all of them, and names
// those that it left out. Other flags set the number of users and processes, and the
// think time: see -help.
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
//     back if that was later. Or a stream ends though its session lives and its process
//     was not replaced;
//   - no process reported an acknowledged end (Config.OnEvent), or an end was reported
//     twice or for another reason;
//   - an application process ends that was not killed, or needs more and more memory,
//     goroutines, descriptors or connections: the median of the last third of its life
//     is above that of the first third by a half and a bit. Its first minute does not
//     count, and it must have lived for another minute;
//   - a request fails in a fault that may cost no request, or without a fault. A machine
//     that is too busy for the users can cause that too: take fewer of them.
//
// The flag -plot draws the requests, the failures and what the processes used, with the
// faults. A run of 30 minutes shows whether processes leak: it makes each fault every
// six minutes.
//
// # The faults
//
// The report has for each fault how many requests failed, for how long, and how long
// after its begin the last one did.
//
//   - process: an application process is killed and replaced. Requests under way fail,
//     and streams end.
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
//     another a second behind. No request fails, and streams end as in a deployment. The
//     command go builds the program for it, with another package time. Users leave two
//     more seconds between their sign-ins, since the limit of sessions goes by the
//     clocks.
//
// The releases are 1.0, 1.1 and 2.0. Release 1.1 has one more field, with the same
// schema version. What it has acknowledged is not lost while release 1.0 changes the
// same session. Release 2.0 has a new schema version and an upgrade. While older
// releases still run, and when they are back, they do not show a session that 2.0 has
// stored: the user is signed out there, which the report counts as hidden. They leave
// it alone, so that 2.0 shows it again with all changes. They can end it. A change that
// an older release has acknowledged may not be stored if 2.0 stored the session
// meanwhile. A process must have reported that (EventDiscarded).
//
// The network cannot fail with the engines cluster and sentinel, since their servers
// announce their own addresses, which bypass a proxy.
//
// # Faults of the application
//
// The flag -break gives the application a fault, which the checker must find:
//
//   - cache: a user gets the answer to another one, as from a proxy that ignores
//     Cache-Control and Vary.
//   - versions: an update does not compare the version of the record. Changes are lost.
//   - merge: a merge keeps the changes of its own request only. Changes are lost.
//   - schema: a release changes the type without a new schema version. Changes are lost.
//   - revive: an update of a deleted record stores it again. The session lives.
//   - touch: the use of a deleted record stores it again. The session lives.
//   - limit: one session of a user is allowed, not two. A session is gone.
//   - deaf: the store reports no changes to Watch. Streams stay open.
//   - streams: a stream ends after a second.
//   - silent: a process does not report the end of a session.
//   - exits: a process ends now and then.
//   - panics: a handler panics now and then. Requests fail without a fault.
//   - abrupt: a process that is replaced does not answer the requests that it has.
//
// The breaks versions, revive, touch and deaf are of the store of Redis, and need one of
// its engines.
//
// # The source
//
// A process of the application is in app.go and release.go, with the faults of -break
// in broken.go. The rest is of the test bed: a site (site.go) has the processes, an
// engine (engine.go, redis.go, postgres.go) has the servers of the store, and
// a schedule makes the faults (schedule.go, deploy.go, clock.go, link.go). A user
// (user.go) has devices (device.go), makes a step (steps.go) by requests (request.go)
// and streams (stream.go), and checks the answers (expect.go, known.go). The checker
// (checker.go, fault.go, soak.go) has what users and processes report.
//
// It is a module of its own, because it requires clients of Redis and PostgreSQL, and
// what draws and shows the progress. The program in the folder simulate prints the
// tables of docs/SCALE.md.
package main
