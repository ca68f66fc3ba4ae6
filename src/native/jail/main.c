/*
 * The way into a jail, in the order of Firecracker's jailer (1.16, src/jailer/src/env.rs,
 * Env::run): cgroups, limits, namespaces, root, devices, daemon, process ids, privileges, program.
 */
#define _GNU_SOURCE
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct jail_handles handles = {-1, -1, -1, -1, -1, -1};

/*
 * To each parent that waits, the outermost first: what failed, or its end without a word. A daemon
 * has no standard error any more when it fails, but the outermost parent has.
 */
#define WAYS_MAX 4
#define MESSAGE_BYTES 512
static int ways[WAYS_MAX];
static int way_count;
static pid_t child_to_kill;
static int failure_status = 1;
/* What was made, while there is no caretaker yet. */
static const struct jail_plan* made;

void jail_fail(const char* operation, const char* object) {
  char message[MESSAGE_BYTES];
  snprintf(message, sizeof message, "Error: estalo jail: %s %s: %s\n", operation, object,
           strerror(errno));
  if (child_to_kill > 0) kill(child_to_kill, SIGKILL);
  if (made != NULL) jail_remove(made, -1);
  jail_await_clean_up(&handles);
  if (way_count == 0) fputs(message, stderr);
  for (int i = 0; i < way_count; i++)
    if (write(ways[i], message, strlen(message)) < 0) continue;
  exit(failure_status);
}

/* What we open must not become a standard stream of the program. */
static void open_standard_streams(void) {
  for (int stream = 0; stream < 3; stream++) {
    if (fcntl(stream, F_GETFD) < 0 && open("/dev/null", O_RDWR) != stream)
      jail_fail("open as a standard stream", "/dev/null");
  }
}

/* Nothing else that was inherited goes in, nor along with the caretaker. */
static void close_what_is_not_kept(const struct jail_plan* plan) {
  unsigned int first = 3;
  for (;;) {
    unsigned int next = ~0u;
    for (int i = 0; i < plan->kept_count; i++) {
      unsigned int kept = (unsigned int)plan->kept[i];
      if (kept >= first && kept < next) next = kept;
    }
    if (next > first && close_range(first, next - 1, CLOSE_RANGE_UNSHARE) < 0)
      jail_fail("close_range", "descriptors");
    if (next == ~0u) return;
    first = next + 1;
  }
}

static void open_handles(const struct jail_plan* plan) {
  handles.null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (handles.null < 0) jail_fail("open", "/dev/null");
  handles.proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (handles.proc < 0) jail_fail("open", "/proc");
  handles.folder = jail_open_folder(plan->folder);
  if (handles.folder < 0) jail_fail("open", plan->folder);
  handles.root = jail_open_below(handles.folder, "root", O_RDONLY | O_DIRECTORY);
  if (handles.root < 0) jail_fail("open the root of", plan->folder);
}

/* Two that start the same jail: one of them stays outside, and the folder is the other's. The lock
 * goes with exec. */
static void take_folder(const struct jail_plan* plan) {
  bool is_locked = flock(handles.root, LOCK_EX | LOCK_NB) == 0;
  int error = errno;
  if (is_locked && !jail_is_in_use(handles.root, false)) return;
  errno = is_locked ? EBUSY : error;
  jail_fail(is_locked ? "a program runs already in" : "lock", plan->folder);
}

static void set_limit(__rlimit_resource_t resource, long long value, const char* name) {
  struct rlimit limit = {.rlim_cur = (rlim_t)value, .rlim_max = (rlim_t)value};
  if (value < 0) return;
  if (setrlimit(resource, &limit) < 0) jail_fail("setrlimit", name);
}

static void join_cgroups(const struct jail_plan* plan) {
  for (int i = 0; i < plan->join_count; i++) {
    int file = open(plan->joins[i], O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, "0", 1) != 1) jail_fail("join cgroup", plan->joins[i]);
    close(file);
  }
}

static void enter_namespaces(const struct jail_plan* plan) {
  if (plan->is_rootless) jail_enter_user_namespace(plan, &handles, true);
  if (plan->netns != NULL) {
    int network = open(plan->netns, O_RDONLY | O_CLOEXEC);
    if (network < 0) jail_fail("open network namespace", plan->netns);
    if (setns(network, CLONE_NEWNET) < 0) jail_fail("join network namespace", plan->netns);
    close(network);
  } else if (plan->has_empty_network && unshare(CLONE_NEWNET) < 0) {
    jail_fail("unshare", "network namespace");
  }
  set_limit(RLIMIT_FSIZE, plan->fsize, "fsize");
  set_limit(RLIMIT_NOFILE, plan->no_file, "no-file");
  join_cgroups(plan);
  if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
    jail_fail("unshare", "mount, IPC, UTS and cgroup namespaces");
  if (plan->host_name != NULL && sethostname(plan->host_name, strlen(plan->host_name)) < 0)
    jail_fail("sethostname", plan->host_name);
}

static void write_pid_file(const char* name, pid_t pid) {
  char text[32];
  struct stat found;
  int file = open(name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
  /* Somebody else's file, linked in: it is not ours to write. */
  if (file >= 0 && fstat(file, &found) == 0 && (!S_ISREG(found.st_mode) || found.st_nlink != 1)) {
    errno = EMLINK;
    jail_fail("write pid file", name);
  }
  int length = snprintf(text, sizeof text, "%d", pid);
  if (file < 0 || ftruncate(file, 0) < 0 || write(file, text, (size_t)length) != length)
    jail_fail("write pid file", name);
  close(file);
}

/* Clients look for one of two names: the program's, or Firecracker's. */
static void write_pid_files(const struct jail_plan* plan, pid_t pid) {
  jail_tell_pid(&handles, pid);
  write_pid_file("firecracker.pid", pid);
  if (plan->pid_file != NULL && strcmp(plan->pid_file, "firecracker.pid") != 0)
    write_pid_file(plan->pid_file, pid);
}

/* The kernel ends this process when its parent has ended. A change of user forgets it. */
static void end_with_parent(void) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) jail_fail("prctl", "parent's death signal");
}

/* Stays until the program has ended, and ends as it did. Holds nothing of its streams. */
static void stay_with(pid_t child) {
  int status = 0;
  for (int stream = 0; stream < 3; stream++)
    dup2(handles.null, stream);
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Forks, and the parent ends with the status of the way in, once exec or a failure decided it. */
static void leave_to_child(int flags, const struct jail_plan* plan) {
  int way[2];
  int go[2];
  char message[MESSAGE_BYTES];
  if (way_count >= WAYS_MAX || pipe2(way, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
    jail_fail("pipe", "child");
  pid_t child = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
  if (child < 0) jail_fail("clone", "child");
  if (child == 0) {
    close(way[0]);
    close(go[1]);
    ways[way_count++] = way[1];
    /* Not before the PID files are written: its failure removes the folder. */
    while (read(go[0], message, 1) < 0 && errno == EINTR) {
    }
    close(go[0]);
    return;
  }
  close(way[1]);
  child_to_kill = child;
  close(go[0]);
  if (plan->is_attached) end_with_parent();
  if (flags & CLONE_NEWPID) write_pid_files(plan, child);
  close(go[1]);
  /* The caretaker's pipe ends with its last holder. */
  close(handles.status);
  handles.status = -1;
  ssize_t bytes;
  while ((bytes = read(way[0], message, sizeof message)) < 0 && errno == EINTR) {
  }
  if (bytes > 0 && way_count == 0) fprintf(stderr, "%.*s", (int)bytes, message);
  if (bytes == 0 && plan->is_attached) stay_with(child);
  _exit(bytes == 0 ? 0 : failure_status);
}

static void detach(const struct jail_plan* plan) {
  leave_to_child(0, plan);
  if (setsid() < 0) jail_fail("setsid", "daemon");
  leave_to_child(0, plan);
  for (int stream = 0; stream < 3; stream++)
    if (dup2(handles.null, stream) < 0) jail_fail("dup2", "/dev/null");
}

/* With somebody who takes it away: until there is a caretaker, no signal but SIGKILL ends us. */
static void make(struct jail_plan* plan) {
  sigset_t signals, before;
  sigfillset(&signals);
  sigprocmask(SIG_BLOCK, &signals, &before);
  jail_make_folder(plan);
  open_handles(plan);
  take_folder(plan);
  made = plan;
  jail_write_record(plan, &handles);
  jail_make_cgroups(plan);
  if (plan->cleans || !plan->keeps_folder || plan->cgroup_count > 0)
    jail_start_caretaker(plan, &handles);
  made = NULL;
  sigprocmask(SIG_SETMASK, &before, NULL);
}

static void start(struct jail_plan* plan) {
  mode_t mask = umask(022);
  make(plan);
  enter_namespaces(plan);
  jail_enter_root(plan, &handles);
  if (plan->is_daemon) detach(plan);
  if (plan->has_pid_namespace)
    leave_to_child(CLONE_NEWPID, plan);
  else
    write_pid_files(plan, getpid());
  jail_drop_privileges(plan, &handles);
  if (plan->is_attached) end_with_parent();
  umask(mask);
  execve(plan->command[0], plan->command, plan->environment);
  jail_fail("exec", plan->command[0]);
}

static int take_away(const struct jail_plan* plan) {
  handles.folder = jail_open_folder(plan->folder);
  if (handles.folder >= 0)
    handles.root = jail_open_below(handles.folder, "root", O_RDONLY | O_DIRECTORY);
  return jail_remove(plan, handles.root) ? 0 : 1;
}

int main(int argc, char** argv) {
  struct jail_plan plan;
  if (argc < 3) {
    fprintf(stderr, "estalo-jail is a part of estalo: estalo jail --help\n");
    return 2;
  }
  open_standard_streams();
  jail_read_plan(argv + 2, &plan);
  failure_status = plan.failure_status;
  close_what_is_not_kept(&plan);
  if (strcmp(argv[1], "remove") == 0) return take_away(&plan);
  if (strcmp(argv[1], "start") != 0 || plan.command == NULL || plan.command[0] == NULL) return 2;
  start(&plan);
  return 1;
}
