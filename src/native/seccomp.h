/*
 * seccomp filters in a running process, by kind of thread.
 *
 * confine(process, vcpu, pool, platform, names): each filter is the bytes of a BPF program.
 * `process` holds for every thread that is there and every one that comes; the others come on top
 * of it: `pool` on libuv's threads, `platform` on V8's, `vcpu` on a thread that is about to enter a
 * guest (ConfineVcpuThread). `names` is a text of the system calls' names with a line for each
 * number. Only once, on the main thread; filters cannot be taken back.
 *
 * setViolationLog(fd): a descriptor that a trapped call is told to, beside standard error; -1 for
 * none.
 */
#ifndef ESTALO_SECCOMP_H
#define ESTALO_SECCOMP_H

#include <napi.h>

namespace estalo {

void Confine(const Napi::CallbackInfo& info);
void SetViolationLog(const Napi::CallbackInfo& info);

/* The calling thread, once; 0 or -errno. Nothing without `confine` before. */
int ConfineVcpuThread();

} // namespace estalo

#endif
