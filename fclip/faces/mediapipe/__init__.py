"""The face back end `mediapipe`: MediaPipe's Face Landmarker."""
