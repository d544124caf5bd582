"""URI schemes: trees and objects in and out."""
