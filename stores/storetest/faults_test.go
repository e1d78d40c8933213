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

// A plainStore is a simple OwnerStore with one fault.
type plainStore struct {
	fault fault

	mu      sync.Mutex
	records map[sessions.ID]sessions.Record
	owners  map[string]map[sessions.ID]bool
	last    uint64
	old     map[sessions.ID]sessions.Record // deleted and cached records, for some faults
	ends    map[sessions.ID]time.Time       // expiries of index entries, for some faults
}

// A fault describes what is wrong with a store. A store with the fault "" is
// correct.
type fault string

func newPlainStore(f fault) *plainStore {
	return &plainStore{
		fault:   f,
		records: map[sessions.ID]sessions.Record{},
		owners:  map[string]map[sessions.ID]bool{},
		old:     map[sessions.ID]sessions.Record{},
		ends:    map[sessions.ID]time.Time{},
	}
}

// has reports whether the store has one of the faults.
func (s *plainStore) has(faults ...fault) bool {
	for _, f := range faults {
		if s.fault == f {
			return true
		}
	}
	return false
}

// lock begins an operation.
func (s *plainStore) lock(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil && !s.has("the context is ignored") {
		if s.has("errors.Is does not find the error of the context") {
			return nil, errors.New(err.Error())
		}
		return nil, err
	}
	s.mu.Lock()
	return s.mu.Unlock, nil
}

// pauseLocked releases the lock for a moment if the store has one of the faults.
func (s *plainStore) pauseLocked(faults ...fault) {
	if s.has(faults...) {
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
}

func (s *plainStore) liveLocked(id sessions.ID, ignoresExpiry ...fault) (sessions.Record, bool) {
	rec, ok := s.records[id]
	if ok && !rec.Expires.After(time.Now()) && !s.has(append(ignoresExpiry, "the expiry is ignored")...) {
		return rec, false
	}
	return rec, ok
}

// contractError returns err, an error of the contract, except for a fault.
func (s *plainStore) contractError(err error) error {
	if s.has("errors.Is does not find the errors of the contract") {
		return errors.New(err.Error())
	}
	return err
}

func (s *plainStore) versionLocked(id sessions.ID, rec sessions.Record) uint64 {
	switch s.fault {
	case "the version is constant":
		return 1
	case "versions start again with a new record":
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

// putLocked stores a record and updates the index.
func (s *plainStore) putLocked(id sessions.ID, rec sessions.Record) uint64 {
	old, existed := s.records[id]
	rec.Version = s.versionLocked(id, rec)
	switch s.fault {
	case "Create keeps the caller's array":
		if existed {
			rec.Data = bytes.Clone(rec.Data)
		}
	case "Update keeps the caller's array":
		if !existed {
			rec.Data = bytes.Clone(rec.Data)
		}
	case "Create changes the caller's array":
		given := rec.Data
		rec.Data = bytes.Clone(given)
		if !existed {
			clear(given)
		}
	case "Update changes the caller's array":
		given := rec.Data
		rec.Data = bytes.Clone(given)
		if existed {
			clear(given)
		}
	case "Update writes into data that Load returned":
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
	rec.Expires = s.storedExpiry(rec.Expires)
	if s.has("the owner ends at a NUL") {
		rec.Owner, _, _ = strings.Cut(rec.Owner, "\x00")
	}
	s.records[id] = rec
	if !existed || old.Owner != rec.Owner {
		s.ends[id] = rec.Expires
	}
	expired := existed && !old.Expires.After(time.Now())
	if existed && !s.has("the index keeps ids that moved") && !(expired && s.has("the index keeps expired ids")) {
		delete(s.owners[s.indexKey(old.Owner)], id)
	}
	if rec.Owner == "" && !s.has("the index has records without an owner") || existed && s.has("the index misses ids that moved") {
		return rec.Version
	}
	s.indexLocked(rec.Owner, id)
	return rec.Version
}

// largest is the length of the largest data of a store with a limit, which is
// a fault unless the suite knows of it.
const largest = 1<<16 - 1

// limitLocked deals with data above the limit, if there is one.
func (s *plainStore) limitLocked(id sessions.ID, rec *sessions.Record) error {
	if len(rec.Data) <= largest {
		return nil
	}
	switch s.fault {
	case "large data is refused":
		return sessions.ErrTooLarge
	case "large data is a conflict":
		return sessions.ErrConflict
	case "large data is cut off":
		rec.Data = rec.Data[:largest]
	case "large data is refused after the old record was deleted":
		s.removeLocked(id)
		return sessions.ErrTooLarge
	case "large data is refused after it was stored":
		s.putLocked(id, *rec)
		return sessions.ErrTooLarge
	}
	return nil
}

func (s *plainStore) indexLocked(owner string, id sessions.ID) {
	owner = s.indexKey(owner)
	if s.owners[owner] == nil {
		s.owners[owner] = map[sessions.ID]bool{}
	}
	s.owners[owner][id] = true
}

// storedExpiry returns the expiry as the store keeps it.
func (s *plainStore) storedExpiry(end time.Time) time.Time {
	switch s.fault {
	case "the expiry has no milliseconds":
		return end.Truncate(time.Second)
	case "the expiry loses its zone":
		return time.Date(end.Year(), end.Month(), end.Day(), end.Hour(), end.Minute(), end.Second(), end.Nanosecond(), time.UTC)
	case "expiries end in 2038":
		return time.Unix(min(end.Unix(), 1<<31-1), int64(end.Nanosecond()))
	}
	return end
}

// indexKey returns the key of owner in the index.
func (s *plainStore) indexKey(owner string) string {
	switch s.fault {
	case "owners are compared without case":
		return strings.ToLower(owner)
	case "owners are compared without trailing spaces":
		return strings.TrimRight(owner, " ")
	case "the index compares only 255 bytes of an owner":
		return owner[:min(len(owner), 255)]
	case "owners are text":
		return strings.ToValidUTF8(owner, "?")
	}
	return owner
}

func (s *plainStore) removeLocked(id sessions.ID) {
	rec := s.records[id]
	s.old[id] = rec
	delete(s.records, id)
	if !s.has("the index keeps deleted ids") {
		delete(s.owners[s.indexKey(rec.Owner)], id)
	}
}

func (s *plainStore) Load(ctx context.Context, id sessions.ID) (sessions.Record, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return sessions.Record{}, err
	}
	defer unlock()
	rec, ok := s.liveLocked(id)
	if !ok {
		return sessions.Record{}, s.contractError(sessions.ErrNotFound)
	}
	if old, ok := s.old[id]; ok && s.has("Load has a cache that is never cleared") {
		return old, nil
	}
	s.old[id] = rec
	return rec, nil
}

func (s *plainStore) Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	_, ok := s.liveLocked(id, "Create refuses to replace an expired record")
	if ok && !s.has("Create overwrites") {
		return 0, s.contractError(sessions.ErrExists)
	}
	if err := s.limitLocked(id, &rec); err != nil {
		return 0, err
	}
	s.pauseLocked("Create checks and then writes")
	version := s.putLocked(id, rec)
	if rec.Version != 0 && s.has("Create uses the version that it is given") {
		stored := s.records[id]
		stored.Version, version = rec.Version, rec.Version
		s.records[id] = stored
	}
	return version, nil
}

func (s *plainStore) Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	old, ok := s.liveLocked(id, "Update finds expired records")
	if !ok && !s.has("Update is an upsert") {
		if s.has("an Update of an absent record leaves its owner in the index") {
			s.indexLocked(rec.Owner, id)
		}
		return 0, s.contractError(sessions.ErrNotFound)
	}
	if ok && old.Version != rec.Version && !s.has("Update ignores the version") {
		if s.has("an Update that conflicts moves the expiry") {
			old.Expires = rec.Expires
			s.records[id] = old
		}
		if s.has("an Update that conflicts returns ErrNotFound") {
			return 0, sessions.ErrNotFound
		}
		return 0, s.contractError(sessions.ErrConflict)
	}
	s.pauseLocked("Update checks and then writes")
	s.pauseLocked("Update checks and then writes unless the record changed")
	if now, ok := s.liveLocked(id); s.has("Update checks and then writes unless the record changed") && ok && now.Version != rec.Version {
		return 0, sessions.ErrConflict
	}
	if err := s.limitLocked(id, &rec); err != nil {
		return 0, err
	}
	if s.has("Update keeps the expiry") {
		rec.Expires = old.Expires
	}
	return s.putLocked(id, rec), nil
}

func (s *plainStore) Touch(ctx context.Context, id sessions.ID, end time.Time) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	rec, ok := s.liveLocked(id, "Touch revives expired records")
	if !ok && s.has("Touch revives deleted records") {
		rec, ok = s.old[id]
	}
	if !ok {
		return s.contractError(sessions.ErrNotFound)
	}
	if !end.After(rec.Expires) && !s.has("Touch shortens") {
		if s.has("a Touch that changes nothing is an error") {
			return sessions.ErrConflict
		}
		return nil
	}
	rec.Expires = s.storedExpiry(end)
	switch s.fault {
	case "Touch changes the version":
		rec.Version = s.versionLocked(id, rec)
	case "Touch drops the owner":
		rec.Owner = ""
	case "Touch does nothing":
		return nil
	}
	s.pauseLocked("Touch reads and then writes")
	s.records[id] = rec
	if !s.has("a Touch does not prolong the index") {
		s.ends[id] = rec.Expires
	}
	return nil
}

func (s *plainStore) Delete(ctx context.Context, id sessions.ID, version uint64) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	rec, ok := s.liveLocked(id, "Delete finds expired records")
	switch {
	case !ok && version == 0 && !s.has("Delete of an absent record is an error"):
		return nil
	case !ok && s.has("Delete of a version of an absent record is no error"):
		return nil
	case !ok:
		return s.contractError(sessions.ErrNotFound)
	case version != 0 && version != rec.Version && !s.has("Delete ignores the version"):
		return s.contractError(sessions.ErrConflict)
	}
	s.pauseLocked("Delete checks and then writes")
	if s.has("Delete does not remove the record") {
		return nil
	}
	s.removeLocked(id)
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
				if s.has("Owned yields no error when it is canceled") {
					return
				}
				yield(sessions.ID{}, err)
				return
			}
			if !yield(id, nil) && !s.has("Owned continues after the loop breaks") {
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
		if o != s.indexKey(owner) && !(like && s.has("owners are patterns")) && !(strings.HasPrefix(o, owner) && s.has("an owner is a prefix")) {
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

// caught lists the subtests of Run that must fail for each fault.
var caught = map[fault][]string{
	"Update is an upsert":                                         {"Update of an absent id is ErrNotFound and writes nothing", sequences, histories, staysEnded},
	"Update ignores the version":                                  {"Update of another version is ErrConflict and writes nothing", sequences, histories, keepAll},
	"Update keeps the caller's array":                             {"Update neither retains nor changes the array of the data"},
	"Update changes the caller's array":                           {"Update neither retains nor changes the array of the data"},
	"Update writes into data that Load returned":                  {"the store does not change data that Load returned"},
	"Update finds expired records":                                {"a record that is created with an expiry in the past is absent for every operation", sequences},
	"Update keeps the expiry":                                     {"Update replaces the whole record", "Update may move the expiry to an earlier time"},
	"Update checks and then writes":                               {"one of several parallel Updates of a version succeeds", "parallel increments by Load and Update are all counted", histories},
	"Update checks and then writes unless the record changed":     {"a deletion wins over parallel Updates and Touches", histories},
	"an Update that conflicts moves the expiry":                   {"Update of another version is ErrConflict and writes nothing", sequences},
	"an Update that conflicts returns ErrNotFound":                {"Update of another version is ErrConflict and writes nothing", keepAll},
	"Create overwrites":                                           {"Create of an id that is taken is ErrExists and writes nothing", sequences, histories},
	"Create refuses to replace an expired record":                 {"an expired record is absent for every operation", "an Update to an expiry in the past makes the record absent for every operation"},
	"Create keeps the caller's array":                             {"Create neither retains nor changes the array of the data"},
	"Create changes the caller's array":                           {"Create neither retains nor changes the array of the data"},
	"Create checks and then writes":                               {"one of several parallel Creates of an id succeeds", "one of several parallel Creates over an expired record succeeds", histories},
	"Touch revives expired records":                               {"an expired record is absent for every operation", "Touch does not revive a deleted or expired record"},
	"Touch revives deleted records":                               {"Touch does not revive a deleted or expired record", sequences, histories},
	"Touch shortens":                                              {"Touch to an expiry that is not later changes nothing and is no error", sequences},
	"Touch changes the version":                                   {"Touch moves the expiry and changes nothing else, including the version", "an Update or Delete of the version before a Touch succeeds"},
	"Touch drops the owner":                                       {"Touch moves the expiry and changes nothing else, including the version", sequences},
	"Touch does nothing":                                          {"a touched record outlives its first expiry"},
	"Touch reads and then writes":                                 {histories},
	"a Touch that changes nothing is an error":                    {"Touch to an expiry that is not later changes nothing and is no error"},
	"Delete ignores the version":                                  {"Delete of a version removes that version only", sequences, histories},
	"Delete finds expired records":                                {"a record that is created with an expiry in the past is absent for every operation"},
	"Delete of an absent record is an error":                      {"a record that never existed is absent for every operation", "Delete of version 0 removes any version of the record and no other record"},
	"Delete of a version of an absent record is no error":         {"Delete of a version removes that version only", "a deleted record is absent for every operation"},
	"Delete checks and then writes":                               {"one of several parallel Deletes of a version succeeds", histories},
	"Delete does not remove the record":                           {"Delete of version 0 removes any version of the record and no other record", "sessions: parallel requests do not undo a logout"},
	"Load has a cache that is never cleared":                      {"Update replaces the whole record", histories, keepAll},
	"the expiry is ignored":                                       {"a record that is created with an expiry in the past is absent for every operation", sequences},
	"the expiry has no milliseconds":                              {"an expiry keeps its milliseconds in any time zone", "a record exists until its expiry and not after"},
	"the expiry loses its zone":                                   {"an expiry keeps its milliseconds in any time zone"},
	"expiries end in 2038":                                        {"an expiry may be in a hundred years"},
	"the version is constant":                                     {"an Update that changes nothing still changes the version", "versions change at every write and are not used again under the id", sequences, histories},
	"the version is a hash of the data":                           {"an Update that changes nothing still changes the version"},
	"versions start again with a new record":                      {"versions change at every write and are not used again under the id", "Update and Delete with the version of a deleted record fail on a record created later", sequences, histories},
	"the first version is 0":                                      {"Load returns the record that was created"},
	"the index keeps ids that moved":                              {"Owned yields no id that moved to another owner", "Owned yields an id for the owner that it has after parallel Updates", sequences},
	"the index misses ids that moved":                             {"Owned yields no id that moved to another owner", "an Update, a Touch and a refused operation do not change the owner of an id", sequences},
	"an Update does not prolong the index":                        {"Owned yields an id whose expiry was moved by Update"},
	"a Touch does not prolong the index":                          {"Owned yields an id whose expiry was moved by Touch"},
	"the index of an owner ends with one of its sessions":         {"Owned yields the live ids of an owner when another one has expired"},
	"an Update of an absent record leaves its owner in the index": {"an Update of an absent id does not add it to an index", sequences},
	"the index keeps expired ids":                                 {"an id that expired and was created again is listed for its new owner only", sequences},
	"Owned counts from the start for each page":                   {"Owned yields every live id while other ids are created, moved and deleted"},
	"Create uses the version that it is given":                    {"Create ignores the version it is given"},
	"the index keeps deleted ids":                                 {"Owned yields no id that was deleted and created again for another owner", sequences},
	"the index has records without an owner":                      {"a record without an owner is not indexed", sequences},
	"the index compares only 255 bytes of an owner":               {"owners that differ in any byte are different"},
	"the owner ends at a NUL":                                     {"owners may contain any bytes", "owners that differ in any byte are different"},
	"owners are compared without case":                            {"owners that differ in any byte are different", "Owned yields nothing for an owner without sessions", sequences},
	"owners are compared without trailing spaces":                 {"owners that differ in any byte are different", "Owned yields nothing for an owner without sessions"},
	"owners are patterns":                                         {"owners that differ in any byte are different", "Owned yields nothing for an owner without sessions"},
	"owners are text":                                             {"owners that differ in any byte are different"},
	"an owner is a prefix":                                        {"owners that differ in any byte are different", "Owned yields nothing for an owner without sessions"},
	"Owned yields a thousand at most":                             {"Owned yields more than a thousand ids"},
	"Owned ignores the context":                                   {"Owned yields the error of a context that is done"},
	"Owned yields no error when it is canceled":                   {"Owned yields the error if it is canceled before it has yielded all ids"},
	"Owned continues after the loop breaks":                       {"a loop over Owned may break, start again, and change the ids that it yields"},
	"data ends at a NUL":                                          {"data may contain any bytes", sequences},
	"data is text":                                                {"data may contain any bytes", sequences},
	"data is trimmed":                                             {"data may contain any bytes"},
	"large data is refused":                                       {"data may have any length up to 1 MiB"},
	"the context is ignored":                                      {"operations return the error of a canceled context", "operations return the error of a context whose deadline has passed"},
	"errors.Is does not find the error of the context":            {"operations return the error of a canceled context", "operations return the error of a context whose deadline has passed"},
	"errors.Is does not find the errors of the contract":          {"Load of an absent id is ErrNotFound", sequences, histories},
}

const (
	sequences  = "any sequence of operations does what a map would do"
	histories  = "parallel operations are linearizable"
	keepAll    = "sessions: parallel requests keep each other's fields and map keys"
	staysEnded = "sessions: an ended session stays ended, whatever a slow request does"
)
