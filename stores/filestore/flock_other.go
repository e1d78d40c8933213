//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package filestore

import (
	"errors"
	"io/fs"
	"os"
)

const supported = false

func open(path string, flag int) (*os.File, error) { return nil, errors.ErrUnsupported }

func tryLock(f *os.File) (bool, error) { return false, errors.ErrUnsupported }

func ownerOf(info fs.FileInfo) int { return -1 }
