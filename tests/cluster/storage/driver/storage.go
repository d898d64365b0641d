package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"sync"
	"time"
)

// kind is what a storage has: it names the folder that they are in.
type kind string

const (
	volumes   kind = "volumes"
	snapshots kind = "snapshots"
)

// errNone says that there is none of this id.
var errNone = errors.New("there is none")

// record is what is known of a volume or a snapshot besides its files.
type record struct {
	ID      string
	Bytes   int64
	Source  string // the volume that was copied, or the snapshot that it was made of
	Created time.Time
}

// storage keeps each volume and each snapshot in a folder: files in data, what is known of them in record.json.
// One gets its name when it is whole, and the name is made of the one that was asked for: asked for twice it is
// the same.
type storage struct {
	root string
	lock sync.Mutex
}

func newStorage(root string) (*storage, error) {
	for _, of := range []kind{volumes, snapshots} {
		if err := os.MkdirAll(filepath.Join(root, string(of)), 0o755); err != nil {
			return nil, err
		}
	}
	return &storage{root: root}, nil
}

func idOf(of kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s-%s", of[:len(of)-1], hex.EncodeToString(sum[:12]))
}

func (s *storage) data(of kind, id string) string {
	return filepath.Join(s.root, string(of), id, "data")
}

func (s *storage) find(of kind, id string) (record, error) {
	var found record
	if id != filepath.Base(id) {
		return found, errNone
	}
	text, err := os.ReadFile(filepath.Join(s.root, string(of), id, "record.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return found, errNone
	}
	if err != nil {
		return found, err
	}
	return found, json.Unmarshal(text, &found)
}

func (s *storage) list(of kind) ([]record, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, string(of)))
	if err != nil {
		return nil, err
	}
	var all []record
	for _, entry := range entries {
		one, err := s.find(of, entry.Name())
		if errors.Is(err, errNone) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	sort.Slice(all, func(a, b int) bool { return all[a].ID < all[b].ID })
	return all, nil
}

// add makes one with the files of the folder `from`, or with none.
func (s *storage) add(of kind, made record, from string) error {
	unfinished, err := os.MkdirTemp(s.root, "unfinished-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(unfinished)
	data := filepath.Join(unfinished, "data")
	if err := os.Mkdir(data, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(data, 0o777); err != nil { // whatever the umask says
		return err
	}
	if from != "" {
		copied := exec.Command("cp", "-a", "--reflink=auto", from+"/.", data)
		if said, err := copied.CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w: %s", err, said)
		}
	}
	text, err := json.Marshal(made)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(unfinished, "record.json"), text, 0o600); err != nil {
		return err
	}
	if err := os.Chmod(unfinished, 0o755); err != nil {
		return err
	}
	return os.Rename(unfinished, filepath.Join(s.root, string(of), made.ID))
}

// remove is well when there is none.
func (s *storage) remove(of kind, id string) error {
	if id != filepath.Base(id) {
		return nil
	}
	return os.RemoveAll(filepath.Join(s.root, string(of), id))
}

// refusal is what a test wants to be told instead of a snapshot: the content of a file.
func (s *storage) refusal() string {
	text, err := os.ReadFile(filepath.Join(s.root, "refuse-snapshots"))
	if err != nil {
		return ""
	}
	return string(text)
}
