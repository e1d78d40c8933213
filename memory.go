package sessions

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/typedsessions/sessions/internal/txn"
	"github.com/typedsessions/sessions/internal/wire"
)

// MemoryStore is a [LabelStore] and a [Watcher] in the memory of the process: for
// one machine, for tests, and for a start. What it holds ends with the process.
// Its zero value is ready; it runs no goroutine, and removes expired records a few
// at a time as it is used.
type MemoryStore struct {
	// Max bounds the number of records; zero means no bound. At Max, a new session
	// takes the place of a record that is expired or that a new id has replaced, else
	// of the session nearest to its expiry among those without an owner, else among
	// all. One that moves to a new id takes no other's place, but has two records
	// from then on: so there are as many above Max as sessions move at once, and one
	// after that. Set it before the first use.
	Max int

	room     sync.Mutex // held by Create if there is a Max
	shards   [memoryShards]memoryShard
	owners   keyIndex
	labels   keyIndex
	count    atomic.Int64
	versions atomic.Uint64

	feeding sync.Mutex                     // held to replace feeds
	feeds   atomic.Pointer[[]*changesFeed] // nil while nobody watches
}

// memoryShards is enough that cores seldom wait for each other.
const memoryShards = 64

// sweepStep is how many expired records an operation removes besides its work:
// more than one, so that they go faster than they come.
const sweepStep = 2

type memoryShard struct {
	mu      sync.Mutex
	records map[ID]*memoryRecord
	// All by expiry, the nearest first: what Max gives up first, second and last.
	replaced, anonymous, owned expiryHeap
}

func (s *memoryShard) heaps() [3]*expiryHeap {
	return [...]*expiryHeap{&s.replaced, &s.anonymous, &s.owned}
}

type memoryRecord struct {
	id      ID
	data    []byte
	version uint64
	expires int64 // Unix milliseconds
	due     int64 // the same, or earlier: what the heap goes by
	owner   string
	labels  []string // replaced as a whole: readers of the old record keep theirs
	index   int      // in its heap
}

var (
	_ LabelStore = (*MemoryStore)(nil)
	_ Watcher    = (*MemoryStore)(nil)
)

// Load implements [Store].
func (m *MemoryStore) Load(ctx context.Context, id ID) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	s := m.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := m.live(s, id)
	if r == nil {
		return Record{}, ErrNotFound
	}
	return Record{Data: r.data, Version: r.version, Expires: time.UnixMilli(r.expires), Owner: r.owner, Labels: r.labels}, nil
}

// Create implements [Store].
func (m *MemoryStore) Create(ctx context.Context, id ID, rec Record) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s := m.shard(id)
	if m.Max > 0 {
		// One at a time, so that there is never one too many. Without Max, only
		// the shard is locked.
		m.room.Lock()
		defer m.room.Unlock()
		if m.has(s, id) {
			return 0, ErrExists
		}
		// For one that moves there is the room of its old record, which might
		// otherwise be the one to go, and the move would find it gone. What earlier
		// moves have left goes, or moves in a row would fill the memory.
		moving, most := txn.IsMoving(ctx), int64(m.Max)
		if moving {
			most++
		}
		for m.count.Load() >= most && m.evict(moving) {
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.live(s, id) != nil {
		return 0, ErrExists
	}
	if s.records == nil {
		s.records = make(map[ID]*memoryRecord)
	}
	r := &memoryRecord{id: id, data: bytes.Clone(rec.Data), version: m.versions.Add(1), owner: rec.Owner, labels: slices.Clone(rec.Labels)}
	r.expires = rec.Expires.UnixMilli()
	r.due = r.expires
	s.records[id] = r
	heap.Push(s.heapOf(r), r)
	m.owners.add(r.owner, r)
	for _, label := range r.labels {
		m.labels.add(label, r)
	}
	m.count.Add(1)
	return r.version, nil
}

// Update implements [Store].
func (m *MemoryStore) Update(ctx context.Context, id ID, rec Record) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s := m.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := m.live(s, id)
	switch {
	case r == nil:
		return 0, ErrNotFound
	case r.version != rec.Version:
		return 0, ErrConflict
	}
	was := s.heapOf(r)
	// A new slice: readers of the old record keep theirs.
	r.data, r.version = bytes.Clone(rec.Data), m.versions.Add(1)
	if r.owner != rec.Owner {
		m.owners.remove(r.owner, r)
		r.owner = rec.Owner
		m.owners.add(r.owner, r)
	}
	if is := s.heapOf(r); is != was {
		heap.Remove(was, r.index)
		heap.Push(is, r)
	}
	if !slices.Equal(r.labels, rec.Labels) {
		m.relabel(r, slices.Clone(rec.Labels))
	}
	s.expire(r, rec.Expires.UnixMilli())
	m.tell(id)
	return r.version, nil
}

// Touch implements [Store].
func (m *MemoryStore) Touch(ctx context.Context, id ID, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := m.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := m.live(s, id)
	if r == nil {
		return ErrNotFound
	}
	s.expire(r, max(r.expires, expires.UnixMilli()))
	return nil
}

// Delete implements [Store].
func (m *MemoryStore) Delete(ctx context.Context, id ID, version uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := m.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := m.live(s, id)
	switch {
	case r == nil && version == 0:
		return nil
	case r == nil:
		return ErrNotFound
	case version != 0 && r.version != version:
		return ErrConflict
	}
	m.remove(s, r)
	m.tell(id)
	return nil
}

// Owned implements [OwnerStore].
func (m *MemoryStore) Owned(ctx context.Context, owner string) iter.Seq2[ID, error] {
	return m.owners.idsOf(ctx, owner)
}

// Labelled implements [LabelStore].
func (m *MemoryStore) Labelled(ctx context.Context, label string) iter.Seq2[ID, error] {
	return m.labels.idsOf(ctx, label)
}

// Changes implements [Watcher]. It yields at once what is updated, deleted, or
// evicted at Max while the loop runs, and ends without an error when ctx does.
// Writers never wait for a loop that is slow. It then gets the zero ID in place of
// what did not fit into its buffer of 1,024 ids.
func (m *MemoryStore) Changes(ctx context.Context) iter.Seq2[ID, error] {
	return func(yield func(ID, error) bool) {
		f := &changesFeed{ids: make(chan ID, feedLength), missed: make(chan struct{}, 1)}
		m.setFeeds(func(feeds []*changesFeed) []*changesFeed { return append(feeds, f) })
		defer m.setFeeds(func(feeds []*changesFeed) []*changesFeed {
			return slices.DeleteFunc(feeds, func(other *changesFeed) bool { return other == f })
		})
		for {
			if id, ok := f.next(ctx); !ok || !yield(id, nil) {
				return
			}
		}
	}
}

// Len returns the number of records, expired ones that were not removed yet
// included.
func (m *MemoryStore) Len() int { return int(m.count.Load()) }

func (m *MemoryStore) shard(id ID) *memoryShard { return &m.shards[id[0]%memoryShards] }

// live returns the record of id, or nil, and removes some that are expired, that
// of id in any case.
func (m *MemoryStore) live(s *memoryShard, id ID) *memoryRecord {
	now := time.Now().UnixMilli()
	r := s.records[id]
	if r != nil && r.expires <= now {
		m.remove(s, r)
		r = nil
	}
	for _, h := range s.heaps() {
		for i := 0; i < sweepStep && len(*h) > 0 && (*h)[0].due <= now; i++ {
			if r := h.first(); r.expires <= now {
				m.remove(s, r)
			}
		}
	}
	return r
}

func (m *MemoryStore) has(s *memoryShard, id ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return m.live(s, id) != nil
}

func (m *MemoryStore) remove(s *memoryShard, r *memoryRecord) {
	heap.Remove(s.heapOf(r), r.index)
	delete(s.records, r.id)
	m.owners.remove(r.owner, r)
	for _, label := range r.labels {
		m.labels.remove(label, r)
	}
	m.count.Add(-1)
}

// relabel adds before it removes, so that the index never misses a label that
// stays.
func (m *MemoryStore) relabel(r *memoryRecord, labels []string) {
	old := r.labels
	r.labels = labels
	for _, label := range labels {
		m.labels.add(label, r)
	}
	for _, label := range old {
		if !slices.Contains(labels, label) {
			m.labels.remove(label, r)
		}
	}
}

// evict removes the record that Max's comment names, over all shards, unless
// another request was faster, and reports whether there was one. With replaced it
// takes only what is expired or says that another id has replaced it. Looking at the
// first of each shard costs the same however many records there are.
func (m *MemoryStore) evict(replaced bool) bool {
	type candidate struct {
		class   int
		expires int64
		shard   int
	}
	best := candidate{class: math.MaxInt}
	now := time.Now().UnixMilli()
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for class, h := range s.heaps() {
			if len(*h) == 0 {
				continue
			}
			c := candidate{class, h.first().expires, i}
			if c.expires <= now {
				c.class = 0
			}
			if replaced && c.class > 0 {
				continue
			}
			if cmp.Or(cmp.Compare(c.class, best.class), cmp.Compare(c.expires, best.expires)) < 0 {
				best = c
			}
		}
		s.mu.Unlock()
	}
	if best.class == math.MaxInt {
		return false
	}
	s := &m.shards[best.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.heaps() {
		if len(*h) > 0 && (*h)[0].expires == best.expires {
			r := (*h)[0]
			m.remove(s, r)
			if best.class > 0 {
				m.tell(r.id)
			}
			break
		}
	}
	return true
}

func (s *memoryShard) heapOf(r *memoryRecord) *expiryHeap {
	if _, ok := wire.ReadTombstone(r.data); ok {
		return &s.replaced
	}
	if r.owner == "" {
		return &s.anonymous
	}
	return &s.owned
}

// expire sets the expiry of r. A later one leaves the heap alone until r is its
// first: most sessions are used often before they expire, and each move in
// a heap of millions misses the cache a dozen times.
func (s *memoryShard) expire(r *memoryRecord, at int64) {
	r.expires = at
	if at < r.due {
		r.due = at
		heap.Fix(s.heapOf(r), r.index)
	}
}

// An expiryHeap is a container/heap whose records know their place.
type expiryHeap []*memoryRecord

// first returns the record nearest to its expiry. The heap is not empty.
func (h *expiryHeap) first() *memoryRecord {
	for {
		r := (*h)[0]
		if r.due == r.expires {
			return r
		}
		r.due = r.expires
		heap.Fix(h, 0)
	}
}

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *expiryHeap) Push(x any) {
	r := x.(*memoryRecord)
	r.index = len(*h)
	*h = append(*h, r)
}
func (h *expiryHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return r
}

// A keyIndex lists records by a key. It is changed under the lock of the shard
// that holds the record, so that it never misses what lives. A key with one record,
// as most owners have, needs no set of its own, which takes 300 bytes.
type keyIndex struct {
	mu   sync.Mutex
	one  map[string]*memoryRecord
	many map[string]map[*memoryRecord]struct{} // keys with several
}

func (x *keyIndex) add(key string, r *memoryRecord) {
	if key == "" {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if set := x.many[key]; set != nil {
		set[r] = struct{}{}
		return
	}
	if x.one == nil {
		x.one, x.many = make(map[string]*memoryRecord), make(map[string]map[*memoryRecord]struct{})
	}
	switch first := x.one[key]; first {
	case nil, r:
		x.one[key] = r
	default:
		delete(x.one, key)
		x.many[key] = map[*memoryRecord]struct{}{first: {}, r: {}}
	}
}

func (x *keyIndex) remove(key string, r *memoryRecord) {
	if key == "" {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	set := x.many[key]
	if set == nil {
		if x.one[key] == r {
			delete(x.one, key)
		}
		return
	}
	delete(set, r)
	if len(set) == 1 {
		delete(x.many, key)
		for last := range set {
			x.one[key] = last
		}
	}
}

func (x *keyIndex) list(key string) []ID {
	x.mu.Lock()
	defer x.mu.Unlock()
	if r := x.one[key]; r != nil {
		return []ID{r.id}
	}
	ids := make([]ID, 0, len(x.many[key]))
	for r := range x.many[key] {
		ids = append(ids, r.id)
	}
	return ids
}

func (x *keyIndex) idsOf(ctx context.Context, key string) iter.Seq2[ID, error] {
	return func(yield func(ID, error) bool) {
		ids := x.list(key)
		for err := ctx.Err(); err == nil && len(ids) > 0; err = ctx.Err() {
			if !yield(ids[0], nil) {
				return
			}
			ids = ids[1:]
		}
		if err := ctx.Err(); err != nil {
			yield(ID{}, err)
		}
	}
}

// feedLength is how many ids wait for a loop over Changes. What a loop does with an
// id takes a microsecond as a rule, or it waits for a Store: the buffer is for
// a burst, such as a RevokeOwner.
const feedLength = 1024

// A changesFeed is what one loop over Changes has not seen yet.
type changesFeed struct {
	ids    chan ID
	missed chan struct{} // holds one if ids was full
}

// tell notes that the record of id was updated or deleted. The lock of its shard
// is held, so that whoever is told and loads it finds it as it is now.
func (m *MemoryStore) tell(id ID) {
	feeds := m.feeds.Load()
	if feeds == nil {
		return
	}
	for _, f := range *feeds {
		select {
		case f.ids <- id:
		default:
			select {
			case f.missed <- struct{}{}:
			default:
			}
		}
	}
}

// setFeeds replaces the list, which tell reads without a lock.
func (m *MemoryStore) setFeeds(change func([]*changesFeed) []*changesFeed) {
	m.feeding.Lock()
	defer m.feeding.Unlock()
	var feeds []*changesFeed
	if old := m.feeds.Load(); old != nil {
		feeds = slices.Clone(*old)
	}
	feeds = change(feeds)
	if len(feeds) == 0 {
		m.feeds.Store(nil)
		return
	}
	m.feeds.Store(&feeds)
}

// next waits for the next id. It returns the zero ID in place of all that wait if
// some were missed, and false once ctx has ended.
func (f *changesFeed) next(ctx context.Context) (id ID, ok bool) {
	if ctx.Err() != nil {
		return ID{}, false
	}
	select {
	case <-f.missed:
		f.drain()
		return ID{}, true
	default:
	}
	select {
	case <-ctx.Done():
		return ID{}, false
	case <-f.missed:
		f.drain()
		return ID{}, true
	case id := <-f.ids:
		return id, true
	}
}

// drain makes room. It ends although writers go on, and what it takes was stored
// before the loop hears that it missed some.
func (f *changesFeed) drain() {
	for range feedLength {
		select {
		case <-f.ids:
		default:
			return
		}
	}
}
