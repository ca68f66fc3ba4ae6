/*
 * This process as the kernel and the loader see it.
 *
 * execute(file, words, environment, kept): execve; of the descriptors the standard ones and those
 * in `kept` stay open. sharedObjects(): what the loader has loaded.
 * Thread: the main one.
 */
#ifndef ESTALO_PROCESS_H
#define ESTALO_PROCESS_H

#include <napi.h>

namespace estalo {

void Execute(const Napi::CallbackInfo& info);
Napi::Value SharedObjects(const Napi::CallbackInfo& info);

} // namespace estalo

#endif
