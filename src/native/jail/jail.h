/*
 * estalo-jail: puts a program into a jail, or takes a jail away. A small single-threaded C program,
 * since namespaces, fork and capabilities are a thread's, and Node.js has many (docs/adr/0015).
 *
 *   estalo-jail start WORD VALUE… -- PROGRAM ARGUMENT…     (the words: plan.c; written by
 * src/jail/plan.ts) estalo-jail remove WORD VALUE…                         (folder, cgroup, kill)
 *
 * What the words say was checked by their writer; paths are followed without symbolic links all the
 * same.
 */
#ifndef ESTALO_JAIL_H
#define ESTALO_JAIL_H

#include <stdbool.h>
#include <sys/types.h>

#define JAIL_LIST_MAX 256

/* A file or folder of the host that shows, read-only unless it is a device, in the jail. */
struct jail_bind {
  const char* source;
  const char* target;
  bool is_device;
  bool is_executable;
};

/* A character device of the jail. */
struct jail_device {
  const char* path;
  unsigned int major;
  unsigned int minor;
  /* Without it the jail is of no use. */
  bool is_needed;
};

/* A value for a file of a control group. */
struct jail_setting {
  const char* file;
  const char* value;
};

struct jail_plan {
  /* <base>/<exec name>/<id>; the jail's root is the folder `root` in it. */
  const char* folder;
  const char* host_name;
  uid_t uid;
  gid_t gid;
  /* No privileges on the host: a user namespace comes first. */
  bool is_rootless;
  const char* netns;
  bool has_empty_network;
  bool has_pid_namespace;
  bool is_daemon;
  /* The launcher stays, ends with who started it, and the program with the launcher. */
  bool is_attached;
  /* Negative: as it is. */
  long long fsize;
  long long no_file;
  /* Remove folder and cgroups when the program has ended. */
  bool cleans;
  /* The folder was there before: nobody but its maker removes it. No word: found out. */
  bool keeps_folder;
  /* Text of the folder's record, where it is to be written. */
  const char* record;
  /* For remove: end what runs in the jail. */
  bool kills;
  const char* pid_file;
  /* cgroup.procs or tasks files to join. */
  const char* joins[JAIL_LIST_MAX];
  int join_count;
  /* Made where they are missing, in order, and removed in reverse: one above another of them when
   * nobody else is in it. */
  const char* cgroups[JAIL_LIST_MAX];
  int cgroup_count;
  /* Written in order, when all groups are there. */
  struct jail_setting settings[JAIL_LIST_MAX];
  int setting_count;
  struct jail_bind binds[JAIL_LIST_MAX];
  int bind_count;
  struct jail_device devices[JAIL_LIST_MAX];
  int device_count;
  /* Of the launcher, when the way in fails. */
  int failure_status;
  char* environment[JAIL_LIST_MAX];
  /* Descriptors that the program gets beside the standard ones. */
  int kept[JAIL_LIST_MAX];
  int kept_count;
  char** command;
};

/* plan.c. Ends the program when the words are not what plan.ts writes. */
void jail_read_plan(char** words, struct jail_plan* plan);

/* Descriptors that outlive the way into the jail; all are closed by exec. */
struct jail_handles {
  int folder;
  int root;
  int proc;
  int null;
  /* Byte for the caretaker: see caretaker.c. */
  int status;
  int done;
};

/* main.c. Says what failed, waits until the folder was removed, and ends the program. */
void jail_fail(const char* operation, const char* object) __attribute__((noreturn));

/* make.c */
/* The folder and the jail's root in it; finds out whether they are this jail's own. */
void jail_make_folder(struct jail_plan* plan);
void jail_write_record(const struct jail_plan* plan, const struct jail_handles* handles);
/* And their settings. */
void jail_make_cgroups(const struct jail_plan* plan);

/* mounts.c: from the host's file system into the jail's. Leaves the process in the jail's root. */
void jail_enter_root(const struct jail_plan* plan, struct jail_handles* handles);
/* Opens a folder of the host, whose path has no symbolic link in it; -1 and errno otherwise. */
int jail_open_folder(const char* path);
/* Opens `path` below `folder`, which has no symbolic link in it; -1 and errno otherwise. */
int jail_open_below(int folder, const char* path, int flags);

/* confine.c */
void jail_enter_user_namespace(const struct jail_plan* plan, const struct jail_handles* handles,
                               bool is_needed);
void jail_drop_privileges(const struct jail_plan* plan, const struct jail_handles* handles);
/* landlock.c: as much as this kernel has; nothing is said when it has none. */
void jail_restrict_files(const struct jail_plan* plan);

/* caretaker.c */
void jail_start_caretaker(const struct jail_plan* plan, struct jail_handles* handles);
void jail_tell_pid(const struct jail_handles* handles, pid_t pid);
void jail_await_clean_up(struct jail_handles* handles);

/* remove.c */
bool jail_remove(const struct jail_plan* plan, int root);
/* What of it is this jail's own; no process may be in it. */
bool jail_remove_folder(const struct jail_plan* plan);
/* Each as soon as nobody is in it. */
bool jail_remove_cgroups(const struct jail_plan* plan);
/* Processes whose root is this folder; `kills`: they are sent SIGKILL and waited for. */
bool jail_is_in_use(int root, bool kills);

#endif
