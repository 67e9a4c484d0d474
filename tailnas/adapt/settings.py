"""Settings of head adaptation; a method's own stand in its file of tailnas/heads."""

from tailnas.foundation.extensions import OneOf

ADAPT = OneOf("tailnas.heads", by="method")
