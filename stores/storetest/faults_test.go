package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"iter"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/typedsessions/sessions"
)

// A plainStore is about the simplest OwnerStore there is, with one fault.
type plainStore struct {
	fault fault

	mu      sync.Mutex
	records map[sessions.ID]sessions.Record
	owners  map[string]map[sessions.ID]bool
	last    uint64
	buried  map[sessions.ID]sessions.Record // for faults
	ends    map[sessions.ID]time.Time       // of entries of the index, for a fault
}

// A fault is what is wrong with a store, in a sentence; "" is nothing.
type fault string

func newPlainStore(f fault) *plainStore {
	return &plainStore{
		fault:   f,
		records: map[sessions.ID]sessions.Record{},
		owners:  map[string]map[sessions.ID]bool{},
		buried:  map[sessions.ID]sessions.Record{},
		ends:    map[sessions.ID]time.Time{},
	}
}

// has says whether the fault is one of these.
func (s *plainStore) has(faults ...fault) bool {
	for _, f := range faults {
		if s.fault == f {
			return true
		}
	}
	return false
}

// enter begins an operation.
func (s *plainStore) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil && !s.has("the context is ignored") {
		if s.has("the error of the context does not shine through") {
			return nil, errors.New(err.Error())
		}
		return nil, err
	}
	s.mu.Lock()
	return s.mu.Unlock, nil
}

// pause lets others in amid an operation that has the fault.
func (s *plainStore) pause(faults ...fault) {
	if s.has(faults...) {
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
}

func (s *plainStore) live(id sessions.ID, ignoresExpiry ...fault) (sessions.Record, bool) {
	rec, ok := s.records[id]
	if ok && !rec.Expires.After(time.Now()) && !s.has(append(ignoresExpiry, "the expiry is ignored")...) {
		return rec, false
	}
	return rec, ok
}

func (s *plainStore) gone(err error) error {
	if s.has("errors are not for errors.Is") {
		return errors.New(err.Error())
	}
	return err
}

func (s *plainStore) version(id sessions.ID, rec sessions.Record) uint64 {
	switch s.fault {
	case "the version is constant":
		return 1
	case "versions begin again with a new record":
		return s.records[id].Version + 1
	case "the version is a hash of the data":
		h := fnv.New64()
		_, _ = h.Write(rec.Data)
		return h.Sum64()
	case "the first version is 0":
		s.last++
		return s.last - 1
	}
	s.last++
	return s.last
}

// put writes a record and moves it in the index.
func (s *plainStore) put(id sessions.ID, rec sessions.Record) uint64 {
	old, existed := s.records[id]
	rec.Version = s.version(id, rec)
	switch s.fault {
	case "Create keeps the caller's array":
		if existed {
			rec.Data = bytes.Clone(rec.Data)
		}
	case "Update keeps the caller's array":
		if !existed {
			rec.Data = bytes.Clone(rec.Data)
		}
	case "Update writes into what was loaded":
		if existed && len(old.Data) >= len(rec.Data) {
			rec.Data = old.Data[:copy(old.Data, rec.Data)]
			break
		}
		rec.Data = bytes.Clone(rec.Data)
	case "data ends at a NUL":
		rec.Data, _, _ = bytes.Cut(rec.Data, []byte{0})
	case "data is text":
		rec.Data = bytes.ToValidUTF8(rec.Data, []byte("?"))
	case "data is trimmed":
		rec.Data = bytes.TrimSpace(rec.Data)
	default:
		rec.Data = bytes.Clone(rec.Data)
	}
	rec.Expires = s.kept(rec.Expires)
	if s.has("the owner ends at a NUL") {
		rec.Owner, _, _ = strings.Cut(rec.Owner, "\x00")
	}
	s.records[id] = rec
	if !existed || old.Owner != rec.Owner {
		s.ends[id] = rec.Expires
	}
	expired := existed && !old.Expires.After(time.Now())
	if existed && !s.has("the index keeps what moved") && !(expired && s.has("the index keeps what expired")) {
		delete(s.owners[s.indexed(old.Owner)], id)
	}
	if rec.Owner == "" && !s.has("the index has records without an owner") || existed && s.has("the index misses what moved") {
		return rec.Version
	}
	s.enlist(rec.Owner, id)
	return rec.Version
}

func (s *plainStore) enlist(owner string, id sessions.ID) {
	owner = s.indexed(owner)
	if s.owners[owner] == nil {
		s.owners[owner] = map[sessions.ID]bool{}
	}
	s.owners[owner][id] = true
}

func (s *plainStore) kept(end time.Time) time.Time {
	switch s.fault {
	case "the expiry has no milliseconds":
		return end.Truncate(time.Second)
	case "the expiry loses its zone":
		return time.Date(end.Year(), end.Month(), end.Day(), end.Hour(), end.Minute(), end.Second(), end.Nanosecond(), time.UTC)
	case "time ends in 2038":
		return time.Unix(min(end.Unix(), 1<<31-1), int64(end.Nanosecond()))
	}
	return end
}

// indexed is how the index spells an owner.
func (s *plainStore) indexed(owner string) string {
	switch s.fault {
	case "owners are compared without case":
		return strings.ToLower(owner)
	case "owners are compared without trailing spaces":
		return strings.TrimRight(owner, " ")
	case "the index looks at 255 bytes of an owner":
		return owner[:min(len(owner), 255)]
	case "owners are text":
		return strings.ToValidUTF8(owner, "?")
	}
	return owner
}

func (s *plainStore) bury(id sessions.ID) {
	rec := s.records[id]
	s.buried[id] = rec
	delete(s.records, id)
	if !s.has("the index keeps what was deleted") {
		delete(s.owners[s.indexed(rec.Owner)], id)
	}
}

func (s *plainStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return sessions.Record{}, err
	}
	defer leave()
	rec, ok := s.live(id)
	if !ok {
		return sessions.Record{}, s.gone(sessions.ErrNotFound)
	}
	if old, ok := s.buried[id]; ok && s.has("Load has a cache that nobody clears") {
		return old, nil
	}
	s.buried[id] = rec
	return rec, nil
}

func (s *plainStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	if len(rec.Data) > 1<<16-1 && s.has("large data is refused") {
		return 0, sessions.ErrTooLarge
	}
	_, ok := s.live(id, "Create refuses to replace an expired record")
	if ok && !s.has("Create overwrites") {
		return 0, s.gone(sessions.ErrExists)
	}
	s.pause("Create checks and then writes")
	version := s.put(id, rec)
	if rec.Version != 0 && s.has("Create takes the version that it is given") {
		stored := s.records[id]
		stored.Version, version = rec.Version, rec.Version
		s.records[id] = stored
	}
	return version, nil
}

func (s *plainStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	old, ok := s.live(id, "Update finds expired records")
	if !ok && !s.has("Update is an upsert") {
		if s.has("an Update that finds nothing leaves its owner in the index") {
			s.enlist(rec.Owner, id)
		}
		return 0, s.gone(sessions.ErrNotFound)
	}
	if ok && old.Version != rec.Version && !s.has("Update does not look at the version") {
		if s.has("an Update that conflicts moves the expiry") {
			old.Expires = rec.Expires
			s.records[id] = old
		}
		if s.has("an Update that conflicts says that nothing is there") {
			return 0, sessions.ErrNotFound
		}
		return 0, s.gone(sessions.ErrConflict)
	}
	s.pause("Update checks and then writes")
	s.pause("Update checks and then writes unless the record changed")
	if now, ok := s.live(id); s.has("Update checks and then writes unless the record changed") && ok && now.Version != rec.Version {
		return 0, sessions.ErrConflict
	}
	if s.has("Update keeps the expiry") {
		rec.Expires = old.Expires
	}
	return s.put(id, rec), nil
}

func (s *plainStore) Touch(ctx context.Context, id sessions.ID, end time.Time) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	rec, ok := s.live(id, "Touch revives what expired")
	if !ok && s.has("Touch revives what was deleted") {
		rec, ok = s.buried[id]
	}
	if !ok {
		return s.gone(sessions.ErrNotFound)
	}
	if !end.After(rec.Expires) && !s.has("Touch shortens") {
		if s.has("a Touch that changes nothing is an error") {
			return sessions.ErrConflict
		}
		return nil
	}
	rec.Expires = s.kept(end)
	switch s.fault {
	case "Touch changes the version":
		rec.Version = s.version(id, rec)
	case "Touch drops the owner":
		rec.Owner = ""
	case "Touch does nothing":
		return nil
	}
	s.pause("Touch reads and then writes")
	s.records[id] = rec
	if !s.has("a Touch does not prolong the index") {
		s.ends[id] = rec.Expires
	}
	return nil
}

func (s *plainStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	rec, ok := s.live(id, "Delete finds expired records")
	switch {
	case !ok && version == 0 && !s.has("Delete of nothing is an error"):
		return nil
	case !ok && s.has("Delete of a version that is gone is no error"):
		return nil
	case !ok:
		return s.gone(sessions.ErrNotFound)
	case version != 0 && version != rec.Version && !s.has("Delete does not look at the version"):
		return s.gone(sessions.ErrConflict)
	}
	s.pause("Delete checks and then writes")
	if s.has("Delete leaves the record to its expiry") {
		return nil
	}
	s.bury(id)
	return nil
}

func (s *plainStore) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		if err := ctx.Err(); err != nil && !s.has("Owned ignores the context") {
			yield(sessions.ID{}, err)
			return
		}
		ids := s.list(owner)
		for i := 0; i < len(ids); i++ {
			id := ids[i]
			if s.has("Owned counts from the start for each page") {
				ids = s.list(owner)
				slices.SortFunc(ids, func(a, b sessions.ID) int { return bytes.Compare(a[:], b[:]) })
				runtime.Gosched()
			}
			if err := ctx.Err(); err != nil && !s.has("Owned ignores the context") {
				if s.has("Owned that is cut short says nothing") {
					return
				}
				yield(sessions.ID{}, err)
				return
			}
			if !yield(id, nil) && !s.has("Owned goes on when the caller breaks") {
				return
			}
		}
	}
}

func (s *plainStore) list(owner string) (ids []sessions.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o, owned := range s.owners {
		like, _ := path.Match(owner, o)
		if o != s.indexed(owner) && !(like && s.has("owners are patterns")) && !(strings.HasPrefix(o, owner) && s.has("an owner is a prefix")) {
			continue
		}
		for id := range owned {
			if !s.ends[id].After(time.Now()) {
				if s.has("an Update does not prolong the index", "a Touch does not prolong the index") {
					continue
				}
				if s.has("the index of an owner ends with one of its sessions") {
					return nil
				}
			}
			if len(ids) < 1000 || !s.has("Owned yields a thousand at most") {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// caught says which subtests of Run must find each fault.
var caught = map[fault][]string{
	"Update is an upsert":                                        {"Update of an absent id is ErrNotFound and writes nothing", sequences, histories, staysEnded},
	"Update does not look at the version":                        {"Update of another version is ErrConflict and writes nothing", sequences, histories, keepAll},
	"Update keeps the caller's array":                            {"Update does not keep the array of the data"},
	"Update writes into what was loaded":                         {"what Load returned is changed by nobody"},
	"Update finds expired records":                               {"a record that is created with an expiry in the past is absent for every operation", sequences},
	"Update keeps the expiry":                                    {"Update replaces all of the record", "Update may bring the expiry nearer"},
	"Update checks and then writes":                              {"of parallel Updates of a version one wins", "compare-and-set of parallel goroutines counts right", histories},
	"Update checks and then writes unless the record changed":    {"a deletion wins over parallel Updates and Touches", histories},
	"an Update that conflicts moves the expiry":                  {"Update of another version is ErrConflict and writes nothing", sequences},
	"an Update that conflicts says that nothing is there":        {"Update of another version is ErrConflict and writes nothing", keepAll},
	"Create overwrites":                                          {"Create of an id that is taken is ErrExists and writes nothing", sequences, histories},
	"Create refuses to replace an expired record":                {"an expired record is absent for every operation", "an Update to an expiry in the past makes the record absent for every operation"},
	"Create keeps the caller's array":                            {"Create does not keep the array of the data"},
	"Create checks and then writes":                              {"of parallel Creates of an id one wins", "of parallel Creates over an expired record one wins", histories},
	"Touch revives what expired":                                 {"an expired record is absent for every operation", "Touch of a deleted or expired id revives nothing"},
	"Touch revives what was deleted":                             {"Touch of a deleted or expired id revives nothing", sequences, histories},
	"Touch shortens":                                             {"Touch to an expiry that is not later changes nothing and is no error", sequences},
	"Touch changes the version":                                  {"Touch moves the expiry and leaves everything else, also the version", "an Update or Delete of the version from before a Touch succeeds"},
	"Touch drops the owner":                                      {"Touch moves the expiry and leaves everything else, also the version", sequences},
	"Touch does nothing":                                         {"a touched record outlives its first expiry"},
	"Touch reads and then writes":                                {histories},
	"a Touch that changes nothing is an error":                   {"Touch to an expiry that is not later changes nothing and is no error"},
	"Delete does not look at the version":                        {"Delete of a version removes that version only", sequences, histories},
	"Delete finds expired records":                               {"a record that is created with an expiry in the past is absent for every operation"},
	"Delete of nothing is an error":                              {"a record that was never there is absent for every operation", "Delete of version 0 removes whatever is there and nothing else"},
	"Delete of a version that is gone is no error":               {"Delete of a version removes that version only", "a deleted record is absent for every operation"},
	"Delete checks and then writes":                              {"of parallel Deletes of a version one wins", histories},
	"Delete leaves the record to its expiry":                     {"Delete of version 0 removes whatever is there and nothing else", "sessions: parallel requests do not undo a logout"},
	"Load has a cache that nobody clears":                        {"Update replaces all of the record", histories, keepAll},
	"the expiry is ignored":                                      {"a record that is created with an expiry in the past is absent for every operation", sequences},
	"the expiry has no milliseconds":                             {"an expiry keeps its milliseconds in any zone", "a record is there until its expiry and not after"},
	"the expiry loses its zone":                                  {"an expiry keeps its milliseconds in any zone"},
	"time ends in 2038":                                          {"an expiry may be a hundred years away"},
	"the version is constant":                                    {"an Update that changes nothing still changes the version", "versions change at every write and never come back under the id", sequences, histories},
	"the version is a hash of the data":                          {"an Update that changes nothing still changes the version"},
	"versions begin again with a new record":                     {"versions change at every write and never come back under the id", "who loaded a record that was deleted and created again cannot change the new one", sequences, histories},
	"the first version is 0":                                     {"Load returns the record that was created"},
	"the index keeps what moved":                                 {"Owned yields no id that moved to another owner", "Owned yields every id that parallel Updates moved to the owner", sequences},
	"the index misses what moved":                                {"Owned yields no id that moved to another owner", "an Update, a Touch and a refused operation leave an id to its owner", sequences},
	"an Update does not prolong the index":                       {"Owned yields an id that an Update kept beyond its first expiry"},
	"a Touch does not prolong the index":                         {"Owned yields an id that was touched beyond its first expiry"},
	"the index of an owner ends with one of its sessions":        {"Owned yields ids that live as long as any"},
	"an Update that finds nothing leaves its owner in the index": {"an Update of an absent id is in nobody's index", sequences},
	"the index keeps what expired":                               {"an id that expired and was created again is in the index of its new owner only", sequences},
	"Owned counts from the start for each page":                  {"Owned misses nothing that lives while others come, move and go"},
	"Create takes the version that it is given":                  {"Create ignores the version it is given"},
	"the index keeps what was deleted":                           {"Owned yields no id that was deleted and created again for another owner", sequences},
	"the index has records without an owner":                     {"a record without an owner is not indexed", sequences},
	"the index looks at 255 bytes of an owner":                   {"owners of any bytes are told apart"},
	"the owner ends at a NUL":                                    {"owners of any bytes come back", "owners of any bytes are told apart"},
	"owners are compared without case":                           {"owners of any bytes are told apart", "Owned yields none where there is none", sequences},
	"owners are compared without trailing spaces":                {"owners of any bytes are told apart", "Owned yields none where there is none"},
	"owners are patterns":                                        {"owners of any bytes are told apart", "Owned yields none where there is none"},
	"owners are text":                                            {"owners of any bytes are told apart"},
	"an owner is a prefix":                                       {"owners of any bytes are told apart", "Owned yields none where there is none"},
	"Owned yields a thousand at most":                            {"Owned yields thousands"},
	"Owned ignores the context":                                  {"Owned obeys its context"},
	"Owned that is cut short says nothing":                       {"Owned that is cancelled on the way ends with that error, or has yielded all"},
	"Owned goes on when the caller breaks":                       {"Owned may be left early, and begun again, and its ids changed meanwhile"},
	"data ends at a NUL":                                         {"data of any bytes comes back", sequences},
	"data is text":                                               {"data of any bytes comes back", sequences},
	"data is trimmed":                                            {"data of any bytes comes back"},
	"large data is refused":                                      {"data of any length up to 1 MiB comes back"},
	"the context is ignored":                                     {"operations obey a context that is cancelled", "operations obey a context whose time is over"},
	"the error of the context does not shine through":            {"operations obey a context that is cancelled", "operations obey a context whose time is over"},
	"errors are not for errors.Is":                               {"Load of an absent id is ErrNotFound", sequences, histories},
}

const (
	sequences  = "any sequence of operations does what a map would do"
	histories  = "any parallel operations can be explained by some order of them"
	keepAll    = "sessions: parallel requests keep each other's fields and map keys"
	staysEnded = "sessions: a session that was ended stays ended, whatever a slow request does"
)
