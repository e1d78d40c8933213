package benchmarks

import "strings"

// A Contender is a session library, or hand-written code, that is measured.
type Contender struct {
	Name   string // in the names of benchmarks
	Title  string
	Module string // the Go module or npm package whose version is reported
	Kind   Kind
	Keeps  string // where the session is stored
	Lacks  Lack
}

// A Kind is the kind of a Contender.
type Kind int

// The kinds of contenders.
const (
	Ours Kind = iota
	Floor
	Peer
	NodePeer // a Peer that runs in Node.js
)

// A Lack is a set of features that a contender lacks in its configuration here.
type Lack uint

// The features that a contender may lack.
const (
	Typing     Lack = 1 << iota // one struct, checked by the compiler
	Validation                  // when loading and when saving
	Absolute                    // an absolute lifetime that the server checks
	Idle                        // an idle timeout that the server checks
	Encryption                  // so that the visitor, or the store, cannot read the session
	Detection                   // detects changes and saves only changed sessions
	Saving                      // saves without a call by the handler
	Atomicity                   // keeps the changes of parallel requests
	Rotation                    // of the signing keys
)

var lacks = []string{
	"typing", "validation", "absolute lifetime", "idle timeout", "encryption",
	"change detection", "automatic saving", "parallel changes", "key rotation",
}

func (l Lack) String() string {
	var names []string
	for i, name := range lacks {
		if l&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

const (
	root = "github.com/typedsessions/sessions"

	// byHand is what the libraries based on securecookie lack. They have a map of
	// values, a signature that includes a time, and a Save in every handler.
	byHand = Typing | Validation | Idle | Detection | Saving | Atomicity
)

// Unruled is the suffix of the name of a contender whose session type has no
// validation rules. The session types of the peers have none either.
const Unruled = "-unruled"

// Contenders are the contenders of BenchmarkRequest, in the order of the tables.
var Contenders = []Contender{
	{"signed", "this library", root, Ours, "signed cookie", Encryption | Atomicity},
	{"sealed", "this library, Encrypt", root, Ours, "sealed cookie", Atomicity},
	{"generated", "this library, generated codec", root, Ours, "signed cookie", Encryption | Atomicity},
	{"memory", "this library, MemoryStore", root, Ours, "memory", Encryption},
	{"signed" + Unruled, "this library, no rules", root, Ours, "signed cookie", Validation | Encryption | Atomicity},
	{"generated" + Unruled, "this library, generated codec, no rules", root, Ours, "signed cookie", Validation | Encryption | Atomicity},
	{"memory" + Unruled, "this library, MemoryStore, no rules", root, Ours, "memory", Validation | Encryption},
	{"memory-sealed", "this library, MemoryStore, Encrypt", root, Ours, "sealed in memory", 0},

	{"floor", "floor", "", Floor, "signed cookie", Absolute | Idle | Encryption | Atomicity | Rotation},
	{"floor-sealed", "floor, sealed", "", Floor, "sealed cookie", Absolute | Idle | Atomicity | Rotation},
	{"floor-generated", "floor, generated codec", "", Floor, "signed cookie", Absolute | Idle | Encryption | Atomicity | Rotation},
	{"floor-lean", "floor, lean", "", Floor, "signed cookie", Absolute | Idle | Encryption | Atomicity | Rotation},

	// scs does not lack Rotation, since it signs nothing and has no keys.
	{"scs", "scs, memstore", "github.com/alexedwards/scs/v2", Peer, "memory", Typing | Validation | Encryption | Detection | Atomicity},
	{"gorilla", "gorilla/sessions", "github.com/gorilla/sessions", Peer, "signed cookie", byHand | Encryption},
	{"gorilla-encrypted", "gorilla/sessions, encrypted", "github.com/gorilla/sessions", Peer, "signed and encrypted cookie", byHand},
	{"securecookie", "gorilla/securecookie, JSON", "github.com/gorilla/securecookie", Peer, "signed cookie", byHand&^Typing | Encryption},
	{"dghubble", "dghubble/sessions", "github.com/dghubble/sessions", Peer, "signed cookie", byHand&^Typing | Encryption},
	{"gin", "gin-contrib/sessions", "github.com/gin-contrib/sessions", Peer, "signed cookie", byHand | Encryption},
	{"echo", "echo-contrib/session", "github.com/labstack/echo-contrib", Peer, "signed cookie", byHand | Encryption},
	{"jwt", "golang-jwt, HS256", "github.com/golang-jwt/jwt/v5", Peer, "signed cookie", byHand&^Typing | Encryption | Rotation},
	{"jwt-eddsa", "golang-jwt, EdDSA", "github.com/golang-jwt/jwt/v5", Peer, "signed cookie", byHand&^Typing | Encryption | Rotation},
	{"paseto", "go-paseto, v4.local", "aidanwoods.dev/go-paseto", Peer, "sealed cookie", byHand&^Typing | Rotation},

	{"remix", "Remix session-middleware", "@remix-run/session-middleware", NodePeer, "signed cookie", Typing | Validation | Absolute | Idle | Encryption | Detection | Atomicity},
	{"express", "express-session", "express-session", NodePeer, "memory", Typing | Validation | Absolute | Encryption | Atomicity},
	{"iron", "iron-session", "iron-session", NodePeer, "sealed cookie", byHand &^ Typing},
}

// Stored are the contenders that keep sessions in a server, in the order of the
// tables.
var Stored = []Contender{
	{"redis-ours", "this library, redisstore", root, Ours, "Redis", Encryption},
	{"redis-ours-cached", "this library, redisstore, LocalCache", root, Ours, "Redis", Encryption},
	{"redis-ours" + Unruled, "this library, redisstore, no rules", root, Ours, "Redis", Validation | Encryption},
	{"redis-floor", "floor, rueidis", "github.com/redis/rueidis", Floor, "Redis", byHandStored},
	{"redis-floor-cached", "floor, rueidis, cached", "github.com/redis/rueidis", Floor, "Redis", byHandStored},
	{"redis-scs", "scs, goredisstore", "github.com/alexedwards/scs/goredisstore", Peer, "Redis", Typing | Validation | Encryption | Detection | Atomicity},
	{"postgres-ours", "this library, sqlstore", root, Ours, "PostgreSQL", Encryption},
	{"postgres-ours" + Unruled, "this library, sqlstore, no rules", root, Ours, "PostgreSQL", Validation | Encryption},
	{"postgres-floor", "floor, pgx", "github.com/jackc/pgx/v5", Floor, "PostgreSQL", byHandStored},
	{"postgres-scs", "scs, pgxstore", "github.com/alexedwards/scs/pgxstore", Peer, "PostgreSQL", Typing | Validation | Encryption | Detection | Atomicity},
}

// byHandStored is what the floors with a server lack. They load a record, decode it,
// and replace it if its version has not changed.
const byHandStored = Validation | Idle | Encryption | Detection | Saving | Rotation
