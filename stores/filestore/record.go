package filestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/typedsessions/sessions"
)

// The file of a record has these fields, with their sizes in bytes. All numbers
// are big-endian.
//
//	magic "SES"                                    3
//	format                                         1
//	CRC-32C of the id and of all following fields  4
//	version                                        8
//	expires, Unix milliseconds                     8
//	number of labels                               4
//	owner
//	labels
//	data
//
// The owner and each label is a string: its length, 4 bytes, and its bytes.
const (
	magic      = "SES"
	format     = 2
	headerSize = len(magic) + 1 + 4 + 8 + 8 + 4
	lengthSize = 4
)

// maxSize bounds the file of a record. A larger file in the place of a record,
// such as one whose size a broken file system got wrong, would otherwise end the
// process, since there is no memory to read it.
const maxSize = 16 << 20

// tempName is the file to which a record is written before it is renamed.
const tempName = "new"

// errTorn is returned for a file that is not what encode wrote, such as one that
// has no content or only a part of it after a power failure. The store treats its record as absent. An error would
// lock the user out until somebody removed the file.
var errTorn = errors.New("not a whole record")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum includes the id, so that a file that ended up under another name is
// not accepted as the record of that id. This can happen on a file system where
// locks do not hold.
func checksum(id sessions.ID, b []byte) uint32 {
	return crc32.Update(crc32.Checksum(id[:], castagnoli), castagnoli, b)
}

func encode(id sessions.ID, rec sessions.Record) ([]byte, error) {
	size := headerSize + lengthSize + len(rec.Owner) + len(rec.Data)
	for _, label := range rec.Labels {
		size += lengthSize + len(label)
	}
	if size > maxSize {
		return nil, fmt.Errorf("%w: a record of %d bytes, need at most %d", sessions.ErrTooLarge, size, maxSize)
	}
	b := make([]byte, 0, size)
	b = append(b, magic...)
	b = append(b, format, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, rec.Version)
	b = binary.BigEndian.AppendUint64(b, uint64(rec.Expires.UnixMilli()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(rec.Labels)))
	b = appendString(b, rec.Owner)
	for _, label := range rec.Labels {
		b = appendString(b, label)
	}
	b = append(b, rec.Data...)
	binary.BigEndian.PutUint32(b[4:], checksum(id, b[8:]))
	return b, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// cutString returns the string that b begins with and the bytes after it.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < lengthSize {
		return "", nil, false
	}
	n := binary.BigEndian.Uint32(b)
	b = b[lengthSize:]
	if uint64(n) > uint64(len(b)) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

func decode(id sessions.ID, b []byte) (rec sessions.Record, err error) {
	if len(b) < headerSize || string(b[:3]) != magic {
		return rec, errTorn
	}
	if b[3] != format {
		return rec, fmt.Errorf("record has format %d, need %d: another version of filestore wrote it, use that version or remove the file", b[3], format)
	}
	if binary.BigEndian.Uint32(b[4:]) != checksum(id, b[8:]) {
		return rec, errTorn
	}
	rec.Version = binary.BigEndian.Uint64(b[8:])
	rec.Expires = time.UnixMilli(int64(binary.BigEndian.Uint64(b[16:])))
	owner, rest, ok := cutString(b[headerSize:])
	rec.Owner = owner
	for n := binary.BigEndian.Uint32(b[24:]); n > 0 && ok; n-- {
		var label string
		label, rest, ok = cutString(rest)
		rec.Labels = append(rec.Labels, label)
	}
	if !ok {
		return sessions.Record{}, errTorn
	}
	rec.Data = rest
	return rec, nil
}

func readRecord(path string, id sessions.ID) (sessions.Record, error) {
	f, err := open(path, os.O_RDONLY)
	if err != nil {
		return sessions.Record{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return sessions.Record{}, err
	}
	if !info.Mode().IsRegular() {
		return sessions.Record{}, fmt.Errorf("%s is a %v, need a regular file", path, info.Mode())
	}
	if info.Size() > maxSize {
		return sessions.Record{}, errTorn
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return sessions.Record{}, fmt.Errorf("%s: %w", path, err)
	}
	rec, err := decode(id, b)
	if err != nil {
		return sessions.Record{}, fmt.Errorf("%s: %w", path, err)
	}
	return rec, nil
}

// writeFile creates a file with content b. It replaces a file that a process
// left there when it died.
func writeFile(path string, b []byte, sync bool) error {
	f, err := open(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		if err := os.Remove(path); err != nil {
			return err
		}
		f, err = open(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
