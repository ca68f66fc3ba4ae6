/*
 * The caretaker: a process outside the jail that takes away what was made for it, when the way in
 * fails, and when the program has ended if that was asked for.
 *
 * It reads a pipe that exec closes: FAILED, the program's process id, or its end. Whoever fails
 * waits for the caretaker by the other pipe, which only the caretaker holds open, until the folder
 * is gone: its control groups cannot go while it is in them.
 */
#define _GNU_SOURCE
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Written instead of a process id. */
static const pid_t FAILED = -1;
/* The launcher has this long to tell its parent how the program ended. */
#define LAUNCHER_PATIENCE_MS 1000

static void await_end(int process, int patience_ms) {
  struct pollfd end = {.fd = process, .events = POLLIN};
  while (process >= 0 && poll(&end, 1, patience_ms) < 0 && errno == EINTR) {
  }
}

/* `done`: closed when who failed may end. `launcher`: of an attached jail, which stays in the
 * jail's root until the program has ended. */
static void run_caretaker(const struct jail_plan* plan, int root, int status, int done,
                          int launcher) {
  pid_t told;
  int program = -1;
  for (;;) {
    ssize_t bytes = read(status, &told, sizeof told);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes != (ssize_t)sizeof told) break;
    if (told == FAILED) {
      /* Who failed may be in the jail still, and waits. A group that it has joined goes after it.
       */
      jail_remove_folder(plan);
      close(done);
      jail_remove_cgroups(plan);
      _exit(0);
    }
    if (program >= 0) close(program);
    program = (int)syscall(SYS_pidfd_open, told, 0);
  }
  if (!plan->cleans) _exit(0);
  await_end(program, -1);
  await_end(launcher, LAUNCHER_PATIENCE_MS);
  struct jail_plan removal = *plan;
  removal.kills = true;
  jail_remove(&removal, root);
  _exit(0);
}

void jail_start_caretaker(const struct jail_plan* plan, struct jail_handles* handles) {
  int status[2];
  int done[2];
  int launcher = -1;
  if (plan->is_attached) launcher = (int)syscall(SYS_pidfd_open, getpid(), 0);
  if (pipe2(status, O_CLOEXEC) < 0 || pipe2(done, O_CLOEXEC) < 0) jail_fail("pipe", "caretaker");
  pid_t child = fork();
  if (child < 0) jail_fail("fork", "caretaker");
  if (child == 0) {
    /* A child of its own, so that nobody has to wait for its end. */
    pid_t caretaker = fork();
    if (caretaker != 0) _exit(caretaker < 0 ? errno : 0);
    /* Who started the jail may wait until nobody holds its standard streams, and may signal its
     * group. */
    setsid();
    for (int stream = 0; stream < 3; stream++)
      dup2(handles->null, stream);
    for (int i = 0; i < plan->kept_count; i++)
      close(plan->kept[i]);
    close(status[1]);
    close(done[0]);
    prctl(PR_SET_NAME, "estalo-jail");
    run_caretaker(plan, handles->root, status[0], done[1], launcher);
  }
  int outcome = 0;
  while (waitpid(child, &outcome, 0) < 0 && errno == EINTR) {
  }
  if (outcome != 0) {
    errno = WIFEXITED(outcome) ? WEXITSTATUS(outcome) : ECHILD;
    jail_fail("fork", "caretaker");
  }
  if (launcher >= 0) close(launcher);
  close(status[0]);
  close(done[1]);
  handles->status = status[1];
  handles->done = done[0];
}

static void tell(const struct jail_handles* handles, pid_t what) {
  if (handles->status < 0) return;
  while (write(handles->status, &what, sizeof what) < 0 && errno == EINTR) {
  }
}

void jail_tell_pid(const struct jail_handles* handles, pid_t pid) {
  tell(handles, pid);
}

void jail_await_clean_up(struct jail_handles* handles) {
  char byte;
  if (handles->status < 0) return;
  tell(handles, FAILED);
  while (read(handles->done, &byte, 1) < 0 && errno == EINTR) {
  }
}
