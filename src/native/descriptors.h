/*
 * What Node.js cannot do with descriptors.
 *
 * blockDeviceBytes(fd): size of a block device. socketPair(): two ends of a Unix stream socket,
 * closed by exec; whoever gets them owns them. sendDescriptor(socket, fd),
 * receiveDescriptor(socket): one over such a socket (unix(7), SCM_RIGHTS); neither waits. Thread:
 * any.
 */
#ifndef ESTALO_DESCRIPTORS_H
#define ESTALO_DESCRIPTORS_H

#include <napi.h>

namespace estalo {

Napi::Value BlockDeviceBytes(const Napi::CallbackInfo& info);
Napi::Value SocketPair(const Napi::CallbackInfo& info);
void SendDescriptor(const Napi::CallbackInfo& info);
Napi::Value ReceiveDescriptor(const Napi::CallbackInfo& info);

} // namespace estalo

#endif
