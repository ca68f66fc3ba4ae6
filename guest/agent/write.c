/*
 * Files and folders into the guest, from a stream of entries. A name is one component, so that no
 * path is put together of what the host says; the first entry has none and goes to the request's
 * path. Holes of files stay holes. A folder gets its mode and time when it is left.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 256, PERMISSIONS = 07777, OWNER_MAY_ALL = 0700, OWNER_MAY_WRITE = 0600 };

/* An entry, as it is to be. */
struct entry {
  mode_t mode;
  uid_t uid;
  gid_t gid;
  struct timespec times[2];
  const char *name, *target;
};

struct open_entry {
  int descriptor;
  struct entry entry;
};

static struct {
  const char* path; /* the request's, until the first entry took it */
  struct open_entry folders[DEPTH_MAX];
  size_t depth;
  struct open_entry file; /* descriptor -1: none */
  off_t at, written;      /* where it goes on; where its last bytes end, and it so far */
  const char* what;       /* what failed, with errno */
} tree = {.file.descriptor = -1};

static bool fail(const char* what) {
  tree.what = what;
  return false;
}

static bool break_rule(const char* what) {
  errno = EPROTO;
  return fail(what);
}

/* Gives it its owner, mode and time, and closes it. */
static bool finish(struct open_entry* open) {
  const struct entry* entry = &open->entry;
  int descriptor = open->descriptor;
  bool owned = entry->uid == NOBODY_GIVEN && entry->gid == NOBODY_GIVEN;
  open->descriptor = -1;
  bool went = (owned || fchown(descriptor, entry->uid, entry->gid) == 0) &&
              fchmod(descriptor, entry->mode & PERMISSIONS) == 0 &&
              futimens(descriptor, entry->times) == 0;
  if (!went) fail("mode");
  /* The last of what did not fit may show only now. */
  if (close(descriptor) < 0 && went) return fail("close");
  return went;
}

static bool finish_file(void) {
  if (tree.file.descriptor < 0) return true;
  if (tree.at > tree.written && ftruncate(tree.file.descriptor, tree.at) < 0) return fail("size");
  return finish(&tree.file);
}

static int parent_folder(void) {
  return tree.depth == 0 ? AT_FDCWD : tree.folders[tree.depth - 1].descriptor;
}

static bool is_name(const char* name) {
  size_t length = strlen(name);
  return length > 0 && length <= NAME_BYTES_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 &&
         strcmp(name, "..") != 0;
}

static bool make_file(const struct entry* entry, const char* name) {
  /* Below a folder of ours nothing is followed; a path that the host names is its own choice. */
  int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | (tree.depth > 0 ? O_NOFOLLOW : 0);
  tree.file = (struct open_entry){openat(parent_folder(), name, flags, OWNER_MAY_WRITE), *entry};
  tree.at = tree.written = 0;
  return tree.file.descriptor >= 0 || fail("create");
}

static bool make_folder(const struct entry* entry, const char* name) {
  if (tree.depth == DEPTH_MAX) {
    errno = ELOOP;
    return fail("folder");
  }
  if (mkdirat(parent_folder(), name, OWNER_MAY_ALL) < 0 && errno != EEXIST) return fail("folder");
  int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (tree.depth > 0 ? O_NOFOLLOW : 0);
  int folder = openat(parent_folder(), name, flags);
  if (folder < 0) return fail("folder");
  tree.folders[tree.depth++] = (struct open_entry){folder, *entry};
  return true;
}

static bool make_link(const struct entry* entry, const char* name) {
  int parent = parent_folder();
  if (unlinkat(parent, name, 0) < 0 && errno != ENOENT) return fail("link");
  if (symlinkat(entry->target, parent, name) < 0) return fail("link");
  utimensat(parent, name, entry->times, AT_SYMLINK_NOFOLLOW);
  return true;
}

static bool take_entry(const struct frame* frame) {
  struct reader reader = read_payload(frame);
  struct entry entry;
  entry.mode = (mode_t)get_number(&reader, 4);
  entry.uid = (uid_t)get_number(&reader, 4);
  entry.gid = (gid_t)get_number(&reader, 4);
  get_number(&reader, 8);
  get_number(&reader, 8);
  entry.times[1].tv_sec = (time_t)get_number(&reader, 8);
  entry.times[1].tv_nsec = (long)get_number(&reader, 4);
  entry.times[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
  entry.name = get_text(&reader);
  entry.target = get_text(&reader);
  if (reader.bad || reader.left > 0) return break_rule("entry");
  const char* name = tree.path ? tree.path : entry.name;
  bool nameless = !*entry.name;
  if (tree.path ? !nameless : tree.depth == 0 || !is_name(name)) return break_rule("name");
  tree.path = NULL;
  if (!finish_file()) return false;
  if (S_ISREG(entry.mode)) return make_file(&entry, name);
  if (S_ISDIR(entry.mode)) return make_folder(&entry, name);
  if (S_ISLNK(entry.mode)) return make_link(&entry, name);
  return break_rule("kind of file");
}

static bool take_data(const struct frame* frame) {
  if (tree.file.descriptor < 0) return break_rule("data");
  for (size_t done = 0; done < frame->length;) {
    ssize_t count =
        pwrite(tree.file.descriptor, frame->payload + done, frame->length - done, tree.at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail("write");
    done += (size_t)count;
    tree.at += count;
  }
  tree.written = tree.at;
  return true;
}

static bool take_hole(const struct frame* frame) {
  struct reader reader = read_payload(frame);
  uint64_t bytes = get_number(&reader, 8);
  if (tree.file.descriptor < 0 || reader.bad || reader.left > 0 ||
      bytes > INT64_MAX - (uint64_t)tree.at)
    return break_rule("hole");
  tree.at += (off_t)bytes;
  return true;
}

static bool leave(void) {
  if (tree.depth == 0) return break_rule("leave");
  return finish_file() && finish(&tree.folders[--tree.depth]);
}

static bool take_frame(const struct frame* frame) {
  switch (frame->type) {
  case ENTRY:
    return take_entry(frame);
  case DATA:
    return take_data(frame);
  case HOLE:
    return take_hole(frame);
  case LEAVE:
    return leave();
  default:
    return break_rule("frame");
  }
}

void serve_write(int connection, struct frame* frame) {
  static char path[PATH_BYTES_MAX + 1];
  struct reader reader = read_payload(frame);
  get_number(&reader, 4);
  const char* wanted = get_text(&reader);
  if (reader.bad || reader.left > 0 || !*wanted || strlen(wanted) > PATH_BYTES_MAX) {
    send_failed(connection, EPROTO, "write");
    return;
  }
  tree.path = strcpy(path, wanted);
  for (;;) {
    if (!receive_frame(connection, frame)) return;
    if (frame->type == END) break;
    if (take_frame(frame)) continue;
    send_failed(connection, errno, tree.what);
    return;
  }
  if (!finish_file())
    send_failed(connection, errno, tree.what);
  else if (tree.depth > 0 || tree.path)
    send_failed(connection, EPROTO, "end");
  else
    send_done(connection);
}
