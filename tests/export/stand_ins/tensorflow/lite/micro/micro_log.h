// A stand-in: see README.md of this folder.
#ifndef STAND_IN_MICRO_LOG_H_
#define STAND_IN_MICRO_LOG_H_

void MicroPrintf(const char* format, ...);

#endif
