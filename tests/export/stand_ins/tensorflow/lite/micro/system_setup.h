// A stand-in: see README.md of this folder.
#ifndef STAND_IN_SYSTEM_SETUP_H_
#define STAND_IN_SYSTEM_SETUP_H_

namespace tflite {
void InitializeTarget();
}

#endif
